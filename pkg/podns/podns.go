// Package podns reaches into a pod's network namespace: the calls that have
// no netlink message, such as sysctls, need a thread that is there.
package podns

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Cookie returns the number that tells a network namespace from every other
// of this boot, also from one made later at the same path (SO_NETNS_COOKIE,
// kernel 5.14). It is 0 where the kernel has none. The inode number would
// not do: the kernel gives it out again at once.
func Cookie(path string) (uint64, error) {
	var cookie uint64
	err := Within(path, func() error {
		fd, serr := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if serr != nil {
			return fmt.Errorf("open a socket: %w", serr)
		}
		defer unix.Close(fd)
		cookie, serr = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(serr, unix.ENOPROTOOPT) {
			return nil // an older kernel: the path and the boot id must do
		}
		return serr
	})
	if err != nil {
		return 0, err
	}
	return cookie, nil
}

// Within runs fn on a thread that is in the namespace at path meanwhile.
func Within(path string, fn func() error) error {
	target, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer target.Close()
	if err = within(target, fn); err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// within borrows a thread. One that cannot come back stays locked, so that it
// ends with its goroutine and starts no delegate in the wrong namespace.
func within(target netns.NsHandle, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("open the thread's own: %w", err)
			return
		}
		defer home.Close()
		if err = netns.Set(target); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter: %w", err)
			return
		}
		err = fn()
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
