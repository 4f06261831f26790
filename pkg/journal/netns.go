package journal

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// BootID returns the identity of this boot of the node, read from `path`
// (/proc/sys/kernel/random/boot_id). Namespaces and VF state end with it.
func BootID(path string) (string, error) {
	id, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// Cookie returns the number that tells a network namespace from every other
// of this boot, also from one made later at the same path (SO_NETNS_COOKIE,
// kernel 5.14). It is 0 where the kernel has none. The inode number would
// not do: the kernel gives it out again at once.
func Cookie(path string) (uint64, error) {
	target, err := netns.GetFromPath(path)
	if err != nil {
		return 0, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer target.Close()
	var cookie uint64
	err = within(target, func() error {
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
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return cookie, nil
}

// within runs fn on a thread that is in the namespace meanwhile. A thread
// that cannot come back stays locked, so that it ends with its goroutine and
// starts no delegate in the wrong namespace.
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

// Live returns the path under which the container's namespace can be reached
// now, or "" when it is gone: another boot, no such path, or another
// namespace at that path. `offered` is the path that the runtime names, which
// may differ from the one at ADD.
func (h *Header) Live(boot, offered string) string {
	if h.Boot == "" { // the first line was damaged: only the runtime knows
		if _, err := Cookie(offered); err == nil {
			return offered
		}
		return ""
	}
	if h.Boot != boot {
		return ""
	}
	for _, path := range []string{offered, h.Netns} {
		if path == "" {
			continue
		}
		if cookie, err := Cookie(path); err == nil && (cookie == h.Cookie || h.Cookie == 0) {
			return path
		}
	}
	return ""
}
