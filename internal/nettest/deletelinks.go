package nettest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// doomedGroup is the link group by which deleteLinks removes links together.
const doomedGroup = 0x6e74

// deleteLinks removes every virtual link of the calling thread's namespace.
// One request for all: the kernel waits about 20 ms per request, however many
// links it names.
func deleteLinks() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	links, err := dump(handle.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	// What has no type of its own is lo or hardware, which no one can delete.
	links = slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Type() == "device" })
	if len(links) == 0 {
		return nil
	}
	for _, link := range links {
		// Somebody may delete links at the same time.
		if err = handle.LinkSetGroup(link, doomedGroup); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("set group of %s: %w", link.Attrs().Name, err)
		}
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(doomedGroup)))
	if _, err = req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %d links: %w", len(links), err)
	}
	return nil
}

// dump asks the kernel again while its answer was interrupted by a change.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const attempts = 50
	var all []T
	var err error
	for range attempts {
		all, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
