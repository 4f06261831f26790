package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
)

// Guard returns an open, locked file for the next delegate to inherit. The
// kernel keeps the lock until the last process that inherited it ends, also
// when this one is killed. Each delegate gets a file of its own, so that a
// daemon which an earlier one left behind on purpose stands in nobody's way.
func (e *Entry) Guard() (*os.File, error) {
	if err := e.Unguard(); err != nil {
		return nil, err
	}
	f, err := e.store.create(runningDir, e.container, os.O_RDWR|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(e.store.failed(err), f.Close())
	}
	return f, nil
}

// Unguard forgets the last delegate: it has ended, and what it left behind on
// purpose stands in nobody's way.
func (e *Entry) Unguard() error {
	if err := absentIsFine(os.Remove(e.store.path(runningDir, e.container))); err != nil {
		return e.store.failed(err)
	}
	return nil
}

// AwaitOrphan makes sure that no delegate of a killed call still runs for
// this container: it waits until `patience` or ctx ends, and then kills
// whatever holds the guard open. It does nothing unless the journal ends in
// the middle of a delegate's run, or does not say whose it is: the DEL of a
// container that no journal describes writes no line.
func (e *Entry) AwaitOrphan(ctx context.Context, patience time.Duration) error {
	if e.Usable() && !e.Interrupted {
		return nil
	}
	f, err := os.OpenFile(e.store.path(runningDir, e.container), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || lockfile.Irregular(err) { // no delegate inherited what is no file
		return nil
	}
	if err != nil {
		return e.store.failed(err)
	}
	defer f.Close()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err = lockfile.Take(waiting, f); !errors.Is(err, ErrBusy) {
		return err
	}
	if err = killHolders(f); err != nil {
		return err
	}
	// Killed processes give their locks back at once, but not instantly.
	dying, cancelDying := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancelDying()
	if err = lockfile.Take(dying, f); err != nil {
		return fmt.Errorf("a delegate of an earlier call for this container cannot be ended: %w", err)
	}
	return nil
}

// killHolders kills the processes, other than this one, that hold the file
// open. They are found by the open file and signalled through a pidfd: a
// recorded process ID could be somebody else's by now.
func killHolders(f *os.File) error {
	want, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("find the processes that hold %s: %w", f.Name(), err)
	}
	for _, p := range procs {
		pid, perr := strconv.Atoi(p.Name())
		if perr != nil || pid == os.Getpid() || !holds(pid, want) {
			continue
		}
		if err = killHolder(pid, want); err != nil {
			return err
		}
	}
	return nil
}

func killHolder(pid int, want os.FileInfo) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !holds(pid, want) {
		return nil
	}
	if err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// holds reports whether a process has the file open.
func holds(pid int, want os.FileInfo) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false // it ended meanwhile
	}
	for _, fd := range fds {
		if st, serr := os.Stat(filepath.Join(dir, fd.Name())); serr == nil && os.SameFile(st, want) {
			return true
		}
	}
	return false
}
