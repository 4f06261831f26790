package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const pluginMode = 0o755

// pluginState is the node's plugin compared with the one to install.
type pluginState string

const (
	pluginSame    pluginState = "as it should be"
	pluginMissing pluginState = "missing"
	pluginOther   pluginState = "another version"
)

func (n *Installer) pluginPath() string { return filepath.Join(n.Paths.BinDir, PluginName) }

// placePlugin puts the executable in its place by a rename: one that runs
// goes on, and none is ever half written. One that does not run here does not
// get there: the conf may be in place, and no pod could start.
func (n *Installer) placePlugin(ctx context.Context) error {
	f, err := os.Open(n.Plugin)
	if err != nil {
		return network.IO.Errorf("install the plugin: %w", err)
	}
	defer f.Close()
	h := n.host()
	return h.replaceIf(n.pluginPath(), f, pluginMode, func(temp string) error {
		if n.Try == nil {
			return nil
		}
		if bad := n.Try(ctx, h.name(temp)); bad != nil {
			return fmt.Errorf("%w; it was not put in place: plugin and conf are as they were", bad)
		}
		return nil
	})
}

// comparePlugin looks at the node's plugin.
func (h host) comparePlugin(source, path string) (pluginState, error) {
	there, err := os.Lstat(h.name(path))
	if errors.Is(err, fs.ErrNotExist) {
		return pluginMissing, nil
	}
	if err != nil {
		return "", network.IO.Errorf("look at the plugin: %w", err)
	}
	if !there.Mode().IsRegular() || there.Mode().Perm() != pluginMode {
		return pluginOther, nil
	}
	same, err := sameContent(source, h.at(path))
	if err != nil {
		return "", network.IO.Errorf("look at the plugin: %w", err)
	}
	if !same {
		return pluginOther, nil
	}
	return pluginSame, nil
}

func sameContent(a, b string) (bool, error) {
	var files [2]*os.File
	var sizes [2]int64
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return false, err
		}
		files[i], sizes[i] = f, info.Size()
	}
	if sizes[0] != sizes[1] {
		return false, nil
	}
	var chunks [2][64 << 10]byte
	for {
		n, err := io.ReadFull(files[0], chunks[0][:])
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if _, err = io.ReadFull(files[1], chunks[1][:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(chunks[0][:n], chunks[1][:n]) {
			return false, nil
		}
	}
}

// seen is by what a file is recognised without reading it again.
type seen struct {
	info os.FileInfo
}

// unchanged reports whether the node's plugin is the file that was looked at
// last, and remembers the one of now.
func (s *seen) unchanged(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		s.info = nil
		return false
	}
	known := s.info
	s.info = info
	return known != nil && os.SameFile(known, info) && known.Size() == info.Size() &&
		known.ModTime().Equal(info.ModTime()) && known.Mode() == info.Mode()
}
