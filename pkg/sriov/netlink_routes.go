package sriov

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultRoutes implements Netns. A route of several next hops counts once
// for each.
func (n *kernelNetns) DefaultRoutes() ([]DefaultRoute, error) {
	handle, err := n.library()
	if err != nil {
		return nil, err
	}
	var out []DefaultRoute
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
		routes, listErr := wholeDump(func() ([]netlink.Route, error) {
			return handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		})
		if listErr != nil {
			return nil, fmt.Errorf("list the default routes of %s: %w", n.path, listErr)
		}
		for i := range routes {
			r := DefaultRoute{Link: routes[i].LinkIndex, IPv6: family == netlink.FAMILY_V6, Priority: routes[i].Priority}
			if len(routes[i].MultiPath) == 0 {
				out = append(out, r)
			}
			for _, hop := range routes[i].MultiPath {
				r.Link = hop.LinkIndex
				out = append(out, r)
			}
		}
	}
	return out, nil
}
