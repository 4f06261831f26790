package deviceplugin

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// maxFile bounds what is read of a file that others could have written.
const maxFile = 4 << 20

// tempExt ends the name of a file that is being written.
const tempExt = ".tmp"

// shared is a directory whose files others on the node read. No link in it
// leads out of it.
type shared struct{ *os.Root }

// openShared opens a directory below `top`, and makes both.
func openShared(top, sub string) (*shared, error) {
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
	temp := name + tempExt
	if err := s.remove(temp); err != nil {
		return err
	}
	f, err := s.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.Write(content)
		// The umask is the process's, and others must be able to read it.
		err = errors.Join(err, f.Chmod(0o644), f.Close())
	}
	if err == nil {
		err = s.Rename(temp, name)
	}
	if err != nil {
		return network.IO.Errorf("write %s: %w", filepath.Join(s.Name(), name), err)
	}
	return nil
}

func (s *shared) remove(name string) error {
	if err := s.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove %s: %w", filepath.Join(s.Name(), name), err)
	}
	return nil
}
