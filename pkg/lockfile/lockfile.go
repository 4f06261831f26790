// Package lockfile is for files that several processes use: it takes the lock
// of one (flock), without waiting in the kernel, where a wait could not be
// ended, and replaces one whole.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another process holds the lock.
const ErrBusy = busy("another process works on it")

type busy string

func (e busy) Error() string { return string(e) }

// Take takes the file's lock, trying until ctx ends, and then returns
// ErrBusy, after one more try. It polls: a wait is rare and long. The lock ends
// with the file.
func Take(ctx context.Context, f *os.File) error {
	last := false
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if last {
			return fmt.Errorf("%s: %w", f.Name(), ErrBusy)
		}
		select {
		case <-ctx.Done():
			last = true
		case <-time.After(pause):
		}
	}
}

// Open opens a file that is nothing but a lock, and takes it. The directory
// must exist.
func Open(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a lock: %w", err)
	}
	if err = Take(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
