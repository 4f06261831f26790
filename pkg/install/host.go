package install

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// host is the node's file system. Paths are the node's own, as the runtime
// and the plugin know them; root is where this process sees them.
type host struct {
	root string
	log  *slog.Logger
}

// at is where this process finds what the node has at a path.
func (h host) at(path string) string { return podns.Below(h.root, path) }

// name is where a name of the node is made, replaced or removed, which is then
// not what it may be a link to.
func (h host) name(path string) string {
	path = filepath.Clean(path) // a slash at its end would count as a name
	return filepath.Join(h.at(filepath.Dir(path)), filepath.Base(path))
}

// folder reads the node's network configurations.
func (h host) folder() network.Folder {
	return network.Folder{
		ReadDir:  func(dir string) ([]fs.DirEntry, error) { return os.ReadDir(h.at(dir)) },
		ReadFile: h.read,
	}
}

// read reads a file, and nothing that could block or never end.
func (h host) read(path string) ([]byte, error) {
	f, err := os.OpenFile(h.at(path), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, network.IO.Errorf("read a file of the node: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, network.IO.Errorf("read a file of the node: %w", err)
	case !info.Mode().IsRegular():
		return nil, network.Invalid.Errorf("%s: is no regular file", path)
	case info.Size() > network.MaxDefinition:
		return nil, network.Invalid.Errorf("%s: %d bytes, at most %d are read", path, info.Size(), network.MaxDefinition)
	}
	raw, err := io.ReadAll(io.LimitReader(f, network.MaxDefinition))
	if err != nil {
		return nil, network.IO.Errorf("read a file of the node: %w", err)
	}
	return raw, nil
}

func (h host) exists(path string) bool {
	_, err := os.Stat(h.at(path))
	return err == nil
}

// makeDir makes a directory, with those above it.
func (h host) makeDir(dir string, mode fs.FileMode) error {
	if h.exists(dir) {
		return nil
	}
	h.step("make directory", dir)
	if err := os.MkdirAll(h.at(dir), mode); err != nil {
		return network.IO.Errorf("make a directory of the node: %w", err)
	}
	return h.syncDir(filepath.Dir(dir))
}

// private takes the rights of others away from a directory: kubelet makes those
// of a pod's volumes readable by all. Who cannot enter it reads nothing in it.
func (h host) private(dir string) error {
	f, err := os.OpenFile(h.name(dir), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return network.IO.Errorf("look at a directory of the node: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		if err = onlyOurs(f, dir); err != nil {
			return err
		}
		err = f.Chmod(info.Mode().Perm() &^ 0o077)
	}
	if err != nil {
		return network.IO.Errorf("others may look into %s: chmod go-rwx %s as root: %w", dir, dir, err)
	}
	return nil
}

// onlyOurs refuses a directory that others use: /run, by a slip of the pen,
// would be closed to the whole node.
func onlyOurs(f *os.File, dir string) error {
	names, err := f.Readdirnames(-1)
	if err != nil {
		return network.IO.Errorf("look into a directory of the node: %w", err)
	}
	slices.Sort(names)
	i := slices.IndexFunc(names, func(name string) bool {
		// Half a file has a dot before the name of the whole, or .tmp behind it.
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "."), ".")
		return !slices.Contains([]string{
			"lost+found", "journal", "running", "release", "cache", "vf", "pf", "cluster", "devices", "pools", "provision", "install", "installed", network.UninstallingFile,
		}, name)
	})
	if i < 0 {
		return nil
	}
	return network.Invalid.Errorf("%s is open to others and stays so, since it holds %q, which is not multiplexer's: give stateDir a directory of its own", dir, names[i])
}

// Private makes the plugin's state directory root's alone, for an agent that
// does not install. One that is not there yet is no error.
func Private(stateDir string) error {
	if h := (host{}); h.exists(stateDir) {
		return h.private(stateDir)
	}
	return nil
}

// temporary is where a file is written before it takes its name: in the same
// directory, where containerd notices the rename, and under a name that no
// runtime reads.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// replace writes a file in one step: its readers see the old one or the new
// one, whole, also after a power loss.
func (h host) replace(path string, content io.Reader, mode fs.FileMode) error {
	return h.replaceIf(path, content, mode, func(string) error { return nil })
}

// replaceIf replaces a file if the new one, which is written by then, is good.
func (h host) replaceIf(path string, content io.Reader, mode fs.FileMode, good func(temp string) error) error {
	temp := temporary(path)
	h.step("write", temp)
	err := h.write(temp, content, mode)
	if err == nil {
		err = good(temp)
	}
	if err == nil {
		h.step("rename", path)
		err = os.Rename(h.name(temp), h.name(path))
	}
	if err != nil {
		return network.IO.Errorf("write %s: %w", path, errors.Join(err, h.clean(temp)))
	}
	h.step("renamed", path)
	return h.syncDir(filepath.Dir(path))
}

// write makes a new file. No process may be started meanwhile: it would hold
// the file open, and an executable that is open for writing does not start.
func (h host) write(path string, content io.Reader, mode fs.FileMode) error {
	if err := h.clean(path); err != nil {
		return err
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(h.name(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// clean removes what a killed process left, if anything.
func (h host) clean(temp string) error {
	if err := os.Remove(h.name(temp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remove removes a file of ours; one that is not there is removed.
func (h host) remove(path string) error {
	h.step("remove", path)
	err := os.Remove(h.name(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return network.IO.Errorf("remove a file of the node: %w", err)
	}
	h.step("removed", path)
	return h.syncDir(filepath.Dir(path))
}

// move renames a file within its directory, never over another one.
func (h host) move(from, to string) error {
	h.step("move", from)
	if err := unix.Renameat2(unix.AT_FDCWD, h.name(from), unix.AT_FDCWD, h.name(to), unix.RENAME_NOREPLACE); err != nil {
		return network.IO.Errorf("rename %s to %s: %w", from, filepath.Base(to), err)
	}
	h.step("moved", to)
	return h.syncDir(filepath.Dir(to))
}

// syncDir makes the directory's names outlive a power loss.
func (h host) syncDir(dir string) error {
	d, err := os.Open(h.at(dir))
	if err != nil {
		return network.IO.Errorf("sync a directory of the node: %w", err)
	}
	defer d.Close()
	if err = d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems have nothing to sync
		return network.IO.Errorf("sync a directory of the node: %w", err)
	}
	return nil
}

// step tells what is done next, for whoever follows an installation.
func (h host) step(what, path string) { h.log.Debug(what, "path", path) }
