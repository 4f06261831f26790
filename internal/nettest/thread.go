package nettest

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// errGoexit says that a function run on its own thread ended its goroutine,
// as testing.TB.FailNow does, instead of returning.
var errGoexit = errors.New("function ended its goroutine instead of returning")

// OnThread runs f on a thread that dies afterwards, so f may change what
// belongs to a thread, such as its network namespace.
func OnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot die, and /proc/PID/ns/net shows its
			// namespace. While it is held here, f runs on another one.
			defer runtime.UnlockOSThread()
			result <- OnThread(f)
			return
		}
		err := errGoexit
		defer func() { result <- err }()
		err = f()
	}()
	return <-result
}
