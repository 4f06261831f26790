package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pluginSocket is a socket file and who listens on it.
type pluginSocket struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

// listenPlugin makes a socket for root alone, in place of any other there.
// Kubelet sees it appear at once and ready, and nobody can connect before its
// mode is right.
func listenPlugin(path string) (*pluginSocket, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and is no socket: remove it", path)
	}
	hidden := filepath.Join(filepath.Dir(path), newPrefix+newTag())
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	s := &pluginSocket{UnixListener: listener, path: path}
	if err = os.Chmod(hidden, 0o600); err == nil {
		s.file, err = os.Lstat(hidden)
	}
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make socket %s: %w", path, err), listener.Close(), os.Remove(hidden))
	}
	return s, nil
}

// mine reports whether the file is still this socket's. Its inode cannot be
// another's while the listener is open.
func (s *pluginSocket) mine() bool {
	info, err := os.Lstat(s.path)
	return err == nil && os.SameFile(info, s.file)
}

// remove removes the file, unless another agent has put its own there.
func (s *pluginSocket) remove() error {
	if !s.mine() {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

// dead reports whether there is no socket, or one on which nobody listens.
func dead(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// youngest is the age below which a socket may be one that another agent is
// about to listen on.
const youngest = time.Minute

// sweep removes the sockets that agents left behind that crashed: those with
// one of the prefixes.
func sweep(dir string, prefixes ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for old sockets: %w", err)
	}
	var failed []error
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.Type() != fs.ModeSocket || !hasPrefix(entry.Name(), prefixes) {
			continue
		}
		info, ierr := entry.Info()
		if ierr != nil || time.Since(info.ModTime()) < youngest || !dead(path) {
			continue
		}
		if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("remove a socket that nobody listens on: %w", rerr))
		}
	}
	return errors.Join(failed...)
}

func hasPrefix(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
