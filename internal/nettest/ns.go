package nettest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` looks for names.
const netnsDir = "/run/netns"

// NS is a named network namespace of its own, with lo up.
// Its methods may be called from several goroutines.
type NS struct {
	name string

	mu     sync.Mutex
	handle *netlink.Handle
}

// NewNS makes a network namespace under /run/netns. Its name is the prefix and
// a random part, so `ip netns` shows it and tests do not meet.
func NewNS(prefix string) (*NS, error) {
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("choose name: %w", err)
	}
	if err := prepareNetnsDir(); err != nil {
		return nil, err
	}
	ns := &NS{name: prefix + hex.EncodeToString(random)}
	if err := ns.create(); err != nil {
		return nil, err
	}
	return ns, nil
}

// Name returns the name that `ip netns` shows.
func (ns *NS) Name() string { return ns.name }

// Path returns what a runtime would hand to a plugin as CNI_NETNS.
func (ns *NS) Path() string { return filepath.Join(netnsDir, ns.name) }

// Do runs f on a thread inside the namespace. Sockets that f opens stay in the
// namespace after it; goroutines that it starts do not run there.
func (ns *NS) Do(f func() error) error { return inNetns(ns.Path(), f) }

// Handle returns a netlink handle that acts in the namespace. It is opened
// once and closed by Close and Replace.
func (ns *NS) Handle() (*netlink.Handle, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.handle != nil {
		return ns.handle, nil
	}
	handle, err := handleAt(ns.Path())
	if err != nil {
		return nil, err
	}
	ns.handle = handle
	return handle, nil
}

// Cookie returns the number that the kernel gives to no other network
// namespace until the next boot (SO_NETNS_COOKIE).
func (ns *NS) Cookie() (uint64, error) {
	var cookie uint64
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer func() { _ = unix.Close(fd) }()
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil {
			return fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
		}
		return nil
	})
	return cookie, err
}

// Replace deletes the namespace and makes a new one at the same path, as when
// a name is used again: same path, another cookie, nothing inside but lo.
func (ns *NS) Replace() error {
	return errors.Join(ns.Close(), ns.create())
}

// Close removes the namespace and the links in it. Links are gone when it
// returns, also their peers in other namespaces; the namespace itself lives on
// while a process or socket uses it. A namespace that is gone already, also
// when somebody else removed it, is no error.
func (ns *NS) Close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.handle != nil {
		ns.handle.Close()
		ns.handle = nil
	}
	if _, err := os.Lstat(ns.Path()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The kernel takes a namespace apart some time after its last user went.
	// Removing the links first makes what others can see of it immediate.
	// A path that is no namespace (any more) holds no links.
	err := ns.Do(deleteLinks)
	if errors.Is(err, errNotNetns) {
		err = nil
	}
	if unmountErr := unix.Unmount(ns.Path(), unix.MNT_DETACH); unmountErr != nil && !errors.Is(unmountErr, unix.EINVAL) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", ns.Path(), unmountErr))
	}
	if removeErr := os.Remove(ns.Path()); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", ns.Path(), removeErr))
	}
	return err
}

// create makes the namespace at the path, which must not exist.
func (ns *NS) create() error {
	file, err := os.OpenFile(ns.Path(), os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("create mount point: %w", err)
	}
	_ = file.Close()
	err = OnThread(func() error {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network namespace: %w", err)
		}
		if err = loopbackUp(); err != nil {
			return err
		}
		if err = unix.Mount("/proc/thread-self/ns/net", ns.Path(), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", ns.Path(), err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, os.Remove(ns.Path()))
	}
	return nil
}

func loopbackUp() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err = handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// errNotNetns says that a path is there but is no network namespace.
var errNotNetns = errors.New("not a network namespace")

// inNetns runs f on a thread inside the namespace at path.
func inNetns(path string, f func() error) error {
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer func() { _ = handle.Close() }()
	return OnThread(func() error {
		if err = netns.Set(handle); err != nil {
			if errors.Is(err, unix.EINVAL) {
				err = errNotNetns
			}
			return fmt.Errorf("enter namespace %s: %w", path, err)
		}
		return f()
	})
}

// handleAt opens a netlink handle that acts in the namespace at path.
func handleAt(path string) (*netlink.Handle, error) {
	var handle *netlink.Handle
	err := inNetns(path, func() error {
		var err error
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink in %s: %w", path, err)
		}
		return nil
	})
	return handle, err
}
