package nodetest

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread that dies afterwards, so f may change what
// belongs to a thread, such as its namespaces.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot die: hold it here, so that f gets another.
			defer runtime.UnlockOSThread()
			result <- onThread(f)
			return
		}
		err := errors.New("the function ended its goroutine instead of returning")
		defer func() { result <- err }()
		err = f()
	}()
	return <-result
}
