package journal

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// delegated starts a process that inherits the container's guard and ends when
// the test does, and gives the journal back as a killed call does.
func delegated(t *testing.T, store *Store) (ended <-chan syscall.WaitStatus) {
	t.Helper()
	e, err := store.Create(t.Context(), "c1")
	must(t, err)
	defer e.Close()
	guard, err := e.Guard()
	must(t, err)
	defer guard.Close()
	cmd := exec.CommandContext(t.Context(), "sleep", "1h")
	cmd.ExtraFiles = []*os.File{guard}
	must(t, cmd.Start())
	end := make(chan syscall.WaitStatus, 1)
	go func() {
		_ = cmd.Wait() // it is always killed, sooner or later
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		end <- status
	}()
	return end
}

// A journal that says nothing does not say that no delegate runs.
func TestAwaitOrphanWithoutEvents(t *testing.T) {
	for name, damage := range map[string]string{"empty": "", "garbage": "\x00\xff no journal\n"} {
		t.Run(name, func(t *testing.T) {
			store := &Store{Dir: t.TempDir(), Now: time.Now}
			ended := delegated(t, store)
			must(t, os.WriteFile(filepath.Join(store.Dir, journalDir, "c1"), []byte(damage), 0o600))
			e, err := store.Open(t.Context(), "c1")
			must(t, err)
			defer e.Close()
			must(t, e.AwaitOrphan(t.Context(), time.Millisecond))
			select {
			case status := <-ended:
				if status.Signal() != syscall.SIGKILL {
					t.Errorf("it ended with %v", status)
				}
			case <-time.After(10 * time.Second):
				t.Error("the delegate goes on")
			}
		})
	}
}

// One that says that no delegate runs leaves a daemon alone.
func TestAwaitOrphanWithEvents(t *testing.T) {
	store := &Store{Dir: t.TempDir(), Now: time.Now}
	ended := delegated(t, store)
	e, err := store.Open(t.Context(), "c1")
	must(t, err)
	defer e.Close()
	must(t, e.Begin(Header{Container: "c1"}))
	must(t, e.AwaitOrphan(t.Context(), time.Hour))
	select {
	case status := <-ended:
		t.Errorf("the daemon ended with %v", status)
	default:
	}
}

// What no delegate holds is not waited for, and nobody is killed for it.
func TestAwaitOrphanWithoutAny(t *testing.T) {
	const patience = 20 * time.Second
	for name, put := range map[string]func(path, held string) error{
		"absent":    func(string, string) error { return nil },
		"file":      func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
		"directory": func(path, _ string) error { return os.MkdirAll(filepath.Join(path, "more"), 0o700) },
		"FIFO":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"link":      func(path, held string) error { return os.Symlink(held, path) },
		"dangling":  func(path, _ string) error { return os.Symlink("none", path) },
	} {
		t.Run(name, func(t *testing.T) {
			other := &Store{Dir: t.TempDir(), Now: time.Now}
			ended := delegated(t, other)
			store := &Store{Dir: t.TempDir(), Now: time.Now}
			e, err := store.Create(t.Context(), "c1")
			must(t, err)
			defer e.Close()
			must(t, put(store.path(runningDir, "c1"), other.path(runningDir, "c1")))
			start := time.Now()
			must(t, e.AwaitOrphan(t.Context(), patience))
			if took := time.Since(start); took >= patience {
				t.Errorf("it took %s", took)
			}
			select {
			case status := <-ended:
				t.Errorf("another's process ended with %v", status)
			default:
			}
		})
	}
	// Nor when a call has to do without the directory.
	store := &Store{Dir: t.TempDir(), Now: time.Now}
	e, err := store.Create(t.Context(), "c1")
	must(t, errors.Join(err, os.RemoveAll(filepath.Join(store.Dir, runningDir))))
	defer e.Close()
	must(t, e.AwaitOrphan(t.Context(), patience))
}
