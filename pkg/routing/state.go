package routing

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State is what the kernel holds in a pod's namespace, as far as the rules
// care: no loopback, no dummies, no VRFs and what is in them, no table "local".
type State struct {
	Links     []Link
	Addresses []Address
	Routes    []Route
	Rules     []Rule
}

// Link is a network interface.
type Link struct {
	Name string
	Up   bool
}

// Address is an address of a link that a peer elsewhere can answer to.
type Address struct {
	Dev    string
	Prefix netip.Prefix // the address, with the length of its subnet
}

// link returns the link of that name, or nil.
func (s *State) link(name string) *Link {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Links[i]
}

// main returns the routes of the main table that a predicate likes.
func (s *State) main(like func(*Route) bool) []Route {
	var out []Route
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Table == unix.RT_TABLE_MAIN && like(r) {
			out = append(out, *r)
		}
	}
	return out
}

// State reads the namespace.
func (p *Pod) State() (*State, error) {
	links, err := retried(p.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces of %s: %w", p.path, err)
	}
	s, names := &State{}, map[int]string{}
	p.index = map[string]int{}
	for _, l := range links {
		attrs := l.Attrs()
		names[attrs.Index], p.index[attrs.Name] = attrs.Name, attrs.Index
		// An address on a dummy is one of the pod itself, as on lo. A VRF is a
		// routing domain of its own: its rule comes before ours, and main has
		// none of its routes.
		if attrs.Flags&net.FlagLoopback == 0 && l.Type() != "dummy" && !inVRF(l, links) {
			s.Links = append(s.Links, Link{Name: attrs.Name, Up: attrs.Flags&net.FlagUp != 0})
		}
	}
	addrs, err := retried(func() ([]netlink.Addr, error) { return p.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", p.path, err)
	}
	for _, a := range addrs {
		if prefix := prefixOf(a.IPNet); s.link(names[a.LinkIndex]) != nil && isGlobal(prefix.Addr()) {
			s.Addresses = append(s.Addresses, Address{names[a.LinkIndex], prefix})
		}
	}
	if s.Routes, err = p.routes(names); err != nil {
		return nil, err
	}
	s.Rules, err = p.rules()
	return s, err
}

// inVRF reports whether a link is a VRF or belongs to one.
func inVRF(l netlink.Link, links []netlink.Link) bool {
	master := l.Attrs().MasterIndex
	return l.Type() == "vrf" || slices.ContainsFunc(links, func(m netlink.Link) bool { return m.Attrs().Index == master && m.Type() == "vrf" })
}

// isGlobal reports whether an address can be one end of a connection that
// leaves its link, so that the way of replies matters.
func isGlobal(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsLoopback() && !a.IsMulticast() && (a.Is4() || !a.IsLinkLocalUnicast())
}

// dumpRoutes returns the routes of all tables and families.
func (p *Pod) dumpRoutes() ([]netlink.Route, error) {
	list, err := retried(func() ([]netlink.Route, error) {
		return p.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes of %s: %w", p.path, err)
	}
	return list, nil
}

func (p *Pod) routes(names map[int]string) ([]Route, error) {
	list, err := p.dumpRoutes()
	if err != nil {
		return nil, err
	}
	var out []Route
	for i := range list {
		out = append(out, readRoute(&list[i], names)...)
	}
	return out, nil
}

func (p *Pod) rules() ([]Rule, error) {
	list, err := retried(func() ([]netlink.Rule, error) { return p.handle.RuleList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list rules of %s: %w", p.path, err)
	}
	var out []Rule
	for i := range list {
		if rule, ok := readRule(&list[i]); ok {
			out = append(out, rule)
		}
	}
	return out, nil
}
