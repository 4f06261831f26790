package deviceplugin

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// maxFile bounds what is read of a file that others could have written.
const maxFile = 4 << 20

// A file that is being written has a name of its own each time: two agents, in
// an upgrade, may write the same one. It is none of a CDI spec.
const (
	tempPrefix = ".multiplexer-"
	tempExt    = ".tmp"
)

// youngest is the age below which such a file may be one that another agent
// writes now.
const youngest = time.Minute

// shared is a directory whose files others on the node read. No link in it
// leads out of it.
type shared struct{ *os.Root }

// openShared opens a directory below `top`, and makes both. What an agent that
// was killed left half written there goes.
func openShared(top, sub string) (*shared, error) {
	s, err := makeShared(top, sub)
	if err == nil {
		s.sweep()
	}
	return s, err
}

func makeShared(top, sub string) (*shared, error) {
	dir := filepath.Join(top, sub)
	root, err := makeRoot(top)
	if err != nil {
		return nil, network.IO.Errorf("%s: %w; it must be a writable directory of root's", dir, err)
	}
	if sub == "" {
		return &shared{root}, nil
	}
	defer root.Close()
	if err = root.MkdirAll(sub, 0o755); err == nil {
		var inner *os.Root
		if inner, err = root.OpenRoot(sub); err == nil {
			return &shared{inner}, nil
		}
	}
	return nil, network.IO.Errorf("%s: %w; it must be a writable directory of root's", dir, err)
}

func makeRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// read returns a file's content, nil if there is none. What is no regular
// file is none of ours.
func (s *shared) read(name string) ([]byte, error) {
	info, err := s.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	var f *os.File
	if err == nil {
		f, err = s.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, network.IO.Errorf("read %s: %w", filepath.Join(s.Name(), name), err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, network.IO.Errorf("read %s: %w", filepath.Join(s.Name(), name), err)
	}
	return raw, nil
}

// write writes a file whole or not at all, and only if it says something new.
func (s *shared) write(name string, content []byte) error {
	if old, err := s.read(name); err == nil && old != nil && bytes.Equal(old, content) {
		return nil
	}
	temp := tempPrefix + rand.Text() + tempExt
	f, err := s.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(content)
		// The umask is the process's, and others must be able to read it.
		if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
			err = s.Rename(temp, name)
		}
		if err != nil {
			_ = s.Remove(temp) // the error before counts
		}
	}
	if err != nil {
		return network.IO.Errorf("write %s: %w", filepath.Join(s.Name(), name), err)
	}
	return nil
}

// sweep removes files that agents left half written. One that stays disturbs
// nobody, and the next look tries again.
func (s *shared) sweep() {
	entries, err := fs.ReadDir(s.FS(), ".")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempExt) {
			if info, infoErr := entry.Info(); infoErr == nil && time.Since(info.ModTime()) >= youngest {
				_ = s.Remove(name)
			}
		}
	}
}

func (s *shared) remove(name string) error {
	if err := s.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove %s: %w", filepath.Join(s.Name(), name), err)
	}
	return nil
}
