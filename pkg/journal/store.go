package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// ErrAbsent says that the container has no journal.
var ErrAbsent = errors.New("no journal for this container")

// ErrBusy says that another process works on this container.
const ErrBusy = lockfile.ErrBusy

// Store is the directory that holds the journals:
//
//	journal/CONTAINERID   one container's journal, and its lock while it is worked on
//	running/CONTAINERID   held open by the delegate that runs for it now
//	release/CONTAINERID   empty: to be released when nobody uses it any more;
//	                      "networks": the networks beside the cluster network now
//
// All directories are 0700, all files 0600.
type Store struct {
	Dir string           // Config.StateDir
	Now func() time.Time // the clock for events
}

const (
	journalDir = "journal"
	runningDir = "running"
	releaseDir = "release"
)

func (s *Store) path(dir, container string) string { return filepath.Join(s.Dir, dir, container) }

// Open returns a container's journal, locked, or ErrAbsent. It waits for the
// lock until ctx ends, and then returns ErrBusy.
func (s *Store) Open(ctx context.Context, container string) (*Entry, error) {
	return s.open(ctx, container, os.O_RDWR)
}

// Create is Open, but makes an empty journal where there is none.
func (s *Store) Create(ctx context.Context, container string) (*Entry, error) {
	e, err := s.open(ctx, container, os.O_RDWR|os.O_CREATE)
	if !errors.Is(err, ErrAbsent) {
		return e, err
	}
	for _, dir := range []string{journalDir, runningDir, releaseDir} {
		if err = s.make(dir); err != nil {
			return nil, err
		}
	}
	return s.open(ctx, container, os.O_RDWR|os.O_CREATE)
}

// create opens a container's file in running/ or release/. A directory that
// somebody removed since is made again.
func (s *Store) create(dir, container string, flags int) (*os.File, error) {
	path := s.path(dir, container)
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.make(dir); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return f, nil
}

func (s *Store) make(dir string) error {
	if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
		return s.failed(err)
	}
	return nil
}

// Try is Open without any waiting.
func (s *Store) Try(ctx context.Context, container string) (*Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return s.Open(ctx, container)
}

func (s *Store) open(ctx context.Context, container string, flags int) (*Entry, error) {
	if err := network.ValidateContainerID(container); err != nil {
		return nil, err
	}
	path := s.path(journalDir, container)
	for {
		f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrAbsent
		}
		if err != nil {
			return nil, s.failed(err)
		}
		if err = lockfile.Take(ctx, f); err != nil {
			if !errors.Is(err, ErrBusy) {
				err = s.failed(err)
			}
			return nil, errors.Join(err, f.Close())
		}
		// Whoever held the lock before may have removed the file.
		gone, err := removed(f) // or it is no file at all
		if err == nil && !gone {
			return s.load(f, container)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, s.failed(err)
		}
	}
}

// load reads the journal that f holds the lock of.
func (s *Store) load(f *os.File, container string) (*Entry, error) {
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(s.failed(err), f.Close())
	}
	contents, whole, err := read(f.Name(), data)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	contents.adopt(container)
	return &Entry{
		Contents: *contents, store: s, file: f, container: container,
		size: int64(whole), torn: whole < len(data),
	}, nil
}

// read takes over the lines of a journal. It returns how many bytes of data
// are whole lines.
func read(path string, data []byte) (*Contents, int, error) {
	events, whole, damaged := decodeLines(data)
	c := &Contents{Damaged: damaged}
	for _, ev := range events {
		if ev.Version > Version {
			return nil, 0, network.Unsupported.Errorf(
				"journal %s is of format %d, this version reads %d: upgrade the multiplexer plugin on this node", path, ev.Version, Version)
		}
		c.apply(ev)
	}
	return c, whole, nil
}

// Read returns what a container's journal says at this moment, and whether a
// call works on it: for showing, not for acting. It tries the lock to know.
func (s *Store) Read(container string) (*Contents, error) { return s.see(container, busyNow) }

// Peek is Read without the lock, and without Busy: for a process that may be
// stopped at any instant, and must hinder no DEL then.
func (s *Store) Peek(container string) (*Contents, error) {
	return s.see(container, func(*os.File) (bool, error) { return false, nil })
}

// busyNow reports whether somebody holds a journal's lock.
func busyNow(f *os.File) (bool, error) {
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, unix.Flock(int(f.Fd()), unix.LOCK_UN)
}

func (s *Store) see(container string, busy func(*os.File) (bool, error)) (*Contents, error) {
	if err := network.ValidateContainerID(container); err != nil {
		return nil, err
	}
	path := s.path(journalDir, container)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, s.failed(err)
	}
	defer f.Close()
	if _, err = removed(f); err != nil { // it is no file
		return nil, s.failed(err)
	}
	// The lock first: who gives it back meanwhile has written all it had to.
	held, err := busy(f)
	if err != nil {
		return nil, s.failed(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, s.failed(err)
	}
	c, _, err := read(path, data)
	if err != nil {
		return nil, err
	}
	c.adopt(container)
	c.Busy = held
	return c, nil
}

// failed says which directory is at fault and what to do about it.
func (s *Store) failed(err error) error {
	if lockfile.Irregular(err) {
		return network.IO.Errorf("state directory %s: %w, and multiplexer makes only files there: see who made it, and remove it", s.Dir, err)
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return network.IO.Errorf("state directory %s: %w; run this as root", s.Dir, err)
	}
	return network.IO.Errorf("state directory %s: %w; it must be a writable directory of root's with free space (stateDir in multiplexer's configuration)", s.Dir, err)
}

// Containers returns the containers that have a journal.
func (s *Store) Containers() ([]string, error) { return s.names(journalDir) }

// ToRelease returns the containers that somebody marked for release.
func (s *Store) ToRelease() ([]string, error) { return s.names(releaseDir) }

func (s *Store) names(dir string) ([]string, error) {
	files, err := os.ReadDir(filepath.Join(s.Dir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed(err)
	}
	var names []string
	for _, f := range files {
		if network.ValidateContainerID(f.Name()) == nil {
			names = append(names, f.Name())
		}
	}
	return names, nil
}

func removed(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, fmt.Errorf("%s %w", f.Name(), lockfile.ErrIrregular)
	}
	return st.Nlink == 0, nil
}
