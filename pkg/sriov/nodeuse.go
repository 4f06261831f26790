package sriov

import (
	"fmt"
	"math"
)

// NodeUse is one look at what the node uses its network devices for.
type NodeUse struct {
	sys   Sysfs
	host  Netns
	links map[string]Link
	any   map[int]bool // devices with a default route
	best  map[int]bool // devices with the default route that the node goes by
}

// LookAtNode takes that look. It is to be closed.
func LookAtNode(sys Sysfs, kernel Kernel) (*NodeUse, error) {
	host, err := kernel.Open("")
	if err != nil {
		return nil, fmt.Errorf("look at the node's network devices: %w", err)
	}
	u := &NodeUse{sys: sys, host: host, links: map[string]Link{}, any: map[int]bool{}, best: map[int]bool{}}
	links, err := host.Links()
	var defaults []DefaultRoute
	if err == nil {
		defaults, err = host.DefaultRoutes()
	}
	if err != nil {
		host.Close()
		return nil, err
	}
	for _, link := range links {
		u.links[link.Name] = link
	}
	best := map[bool]int{false: math.MaxInt, true: math.MaxInt}
	for _, route := range defaults {
		best[route.IPv6] = min(best[route.IPv6], route.Priority)
	}
	for _, route := range defaults {
		u.any[route.Link] = true
		if route.Priority == best[route.IPv6] {
			u.best[route.Link] = true
		}
	}
	return u, nil
}

// Close ends the look.
func (u *NodeUse) Close() { u.host.Close() }

// Index returns the index of a network device, 0 if the node has none of
// that name.
func (u *NodeUse) Index(netdev string) int { return u.links[netdev].Index }

// Of says what the node uses a function for, "" = nothing that shows. A PF or
// another NIC is in use by an address or any default route; a VF by the
// default route that the node goes by only, as network managers give any NIC
// addresses, and worse routes with them.
func (u *NodeUse) Of(d *Device) (string, error) {
	link, ok := u.links[d.Netdev]
	if d.Netdev == "" || !ok || !link.IsOf(d.PCI) {
		return "", nil
	}
	routes := u.best
	if d.Index < 0 {
		routes = u.any
	}
	if routes[link.Index] {
		return "has a default route of the node", nil
	}
	return u.sys.nodeUse(u.host, d, &link, d.Index < 0)
}

// nodeUse says what the node uses a device for, "" = nothing that shows.
// Addresses of the node on it count if they are asked for.
func (s Sysfs) nodeUse(host Netns, d *Device, link *Link, withAddresses bool) (string, error) {
	if link.Master != 0 {
		return "is in a bridge or bond of the node", nil
	}
	if upper := s.upper(d); upper != "" {
		return "has " + upper + " of the node on it", nil
	}
	if !withAddresses {
		return "", nil
	}
	addresses, err := host.Addresses(link.Index)
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if a.Addr().IsGlobalUnicast() {
			return "has the address " + a.String() + " on the node", nil
		}
	}
	return "", nil
}

// DefaultRoute is a default route of the main table.
type DefaultRoute struct {
	Link     int // index of the network device
	IPv6     bool
	Priority int
}
