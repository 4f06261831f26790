package routetest

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What the kernel holds in a namespace. Each list is asked for again when a
// change interrupted it: such a list is a part.

func links(t testing.TB, ns *nettest.NS) []netlink.Link {
	t.Helper()
	return whole(t, handle(t, ns).LinkList)
}

func addresses(t testing.TB, ns *nettest.NS) []netlink.Addr {
	t.Helper()
	return whole(t, func() ([]netlink.Addr, error) { return handle(t, ns).AddrList(nil, netlink.FAMILY_ALL) })
}

// routes are those of one table, or of all with unix.RT_TABLE_UNSPEC.
func routes(t testing.TB, ns *nettest.NS, table int) []netlink.Route {
	t.Helper()
	return whole(t, func() ([]netlink.Route, error) {
		return handle(t, ns).RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	})
}

func rules(t testing.TB, ns *nettest.NS) []netlink.Rule {
	t.Helper()
	return whole(t, func() ([]netlink.Rule, error) { return handle(t, ns).RuleList(netlink.FAMILY_ALL) })
}

func whole[T any](t testing.TB, dump func() (T, error)) T {
	t.Helper()
	for {
		list, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			must(t, err)
			return list
		}
	}
}
