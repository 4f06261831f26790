package deviceplugin

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watched are the node's network devices that matter, by index.
type watched struct {
	links      map[int]bool // of PCI functions
	candidates map[int]bool // of those that a resource selects
	addresses  map[int]bool // of those among them that are no VFs
}

// equal reports whether two sets of devices are the same.
func (w *watched) equal(other *watched) bool {
	return maps.Equal(w.links, other.links) && maps.Equal(w.candidates, other.candidates) && maps.Equal(w.addresses, other.addresses)
}

// watch starts what tells the manager when to look. Without one of them
// changes are seen late, by the rescan: that is said and ends nothing.
func (m *Manager) watch(ctx context.Context, running *sync.WaitGroup) {
	const uevents = 1 // the kernel's own, not udev's
	err := errors.Join(
		m.hear(ctx, running, unix.NETLINK_KOBJECT_UEVENT, uevents, func(message []byte) string {
			if concernsNICs(message) {
				return causeUevent
			}
			return ""
		}),
		m.hear(ctx, running, unix.NETLINK_ROUTE, routeGroups, m.routes.cause),
		m.watchFiles(ctx, running))
	m.notices.check(m.Log, "watch", "not everything that changes devices is heard of: some changes are seen at the next rescan only", err)
}

// hear reads a netlink socket's events until ctx ends. `cause` says what a
// message is to the manager, "" = nothing.
func (m *Manager) hear(ctx context.Context, running *sync.WaitGroup, protocol int, groups uint32, cause func([]byte) string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// VFs come by the hundred, with some events each. A smaller buffer loses
	// events, which is noticed.
	const buffer = 1 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	socket := os.NewFile(uintptr(fd), "netlink")
	running.Go(func() {
		defer socket.Close()
		stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
		defer stop()
		m.listen(ctx, socket, cause)
	})
	return nil
}

func (m *Manager) listen(ctx context.Context, socket *os.File, cause func([]byte) string) {
	message := make([]byte, 64<<10)
	for {
		n, err := socket.Read(message)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS):
			m.pending.add(causeLost)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			m.notices.check(m.Log, "hear", "the kernel's events are not heard any more: changes are seen at the next rescan only; start the agent anew", err)
			return
		default:
			if why := cause(message[:n]); why != "" {
				m.pending.add(why)
			}
		}
	}
}
