package routing

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readRoute takes a route over from the library. Routes that are none of
// ours to reason about (of table "local", of multicast) come out as nothing.
func readRoute(in *netlink.Route, names map[int]string) []Route {
	if in.Table == unix.RT_TABLE_LOCAL || in.Dst == nil || prefixOf(in.Dst).Addr().Is4In6() || (in.Family != unix.AF_INET && in.Family != unix.AF_INET6) {
		return nil
	}
	out := Route{
		Table: in.Table, Dst: prefixOf(in.Dst), Gateway: gatewayOf(in.Gw, in.Via), Dev: names[in.LinkIndex],
		Metric: in.Priority, TOS: in.Tos, Scope: int(in.Scope), Onlink: in.Flags&int(netlink.FLAG_ONLINK) != 0,
		Source: addrOf(in.Src), MTU: in.MTU, AdvMSS: in.AdvMSS, Protocol: int(in.Protocol), Encap: in.Encap != nil,
	}
	switch in.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT:
		out.Type, out.Dev = in.Type, ""
	default:
		return nil
	}
	if len(in.MultiPath) == 0 {
		return []Route{out}
	}
	if in.Family == unix.AF_INET6 {
		var each []Route
		for _, hop := range in.MultiPath {
			one := out
			one.Gateway, one.Dev = gatewayOf(hop.Gw, hop.Via), names[hop.LinkIndex]
			each = append(each, one)
		}
		return each
	}
	for _, hop := range in.MultiPath {
		out.Hops = append(out.Hops, Hop{Gateway: gatewayOf(hop.Gw, hop.Via), Dev: names[hop.LinkIndex], Weight: hop.Hops})
	}
	return []Route{out}
}

// netlink gives the route to the library. `index` finds interfaces by name.
func (r *Route) netlink(index map[string]int) *netlink.Route {
	out := &netlink.Route{
		Table: r.Table, Dst: netOf(r.Dst), LinkIndex: index[r.Dev], Priority: r.Metric, Tos: r.TOS,
		Type: r.Type, Scope: netlink.Scope(r.Scope), Src: ipOf(r.Source), MTU: r.MTU, AdvMSS: r.AdvMSS,
		Protocol: unix.RTPROT_STATIC,
	}
	if r.Protocol != 0 {
		out.Protocol = netlink.RouteProtocol(r.Protocol)
	}
	out.Gw, out.Via = splitGateway(r.Dst, r.Gateway)
	if r.Onlink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	for _, hop := range r.Hops {
		info := &netlink.NexthopInfo{LinkIndex: index[hop.Dev], Hops: hop.Weight}
		info.Gw, info.Via = splitGateway(r.Dst, hop.Gateway)
		if r.Onlink {
			info.Flags = int(netlink.FLAG_ONLINK)
		}
		out.MultiPath = append(out.MultiPath, info)
	}
	return out
}

// readRule takes a rule over. Rules that also look at something else than
// the kinds of rule used here do are left out.
func readRule(in *netlink.Rule) (Rule, bool) {
	out := Rule{Priority: in.Priority, IPv6: in.Family == unix.AF_INET6, Table: in.Table, OIF: in.OifName}
	known := in.Family == unix.AF_INET || in.Family == unix.AF_INET6
	if in.Src != nil {
		out.From = prefixOf(in.Src)
	}
	if in.Dst != nil {
		out.To = prefixOf(in.Dst)
	}
	if in.SuppressPrefixlen > 0 {
		out.Suppress = in.SuppressPrefixlen
	}
	return out, known && !special(in)
}

// special reports whether a rule also looks at something else than the rules
// here do. One without a table is a VRF's, and says nothing of what is in none.
func special(in *netlink.Rule) bool {
	return in.Table == unix.RT_TABLE_UNSPEC || in.SuppressPrefixlen == 0 || in.SuppressIfgroup >= 0 || in.Invert || in.Mark != 0 ||
		in.IifName != "" || in.Tos != 0 || in.IPProto > 0 || in.Dport != nil || in.Sport != nil || in.UIDRange != nil
}

func (r Rule) netlink() *netlink.Rule {
	out := netlink.NewRule()
	out.Priority, out.Table, out.OifName, out.Family = r.Priority, r.Table, r.OIF, unix.AF_INET
	if r.IPv6 {
		out.Family = unix.AF_INET6
	}
	if r.Suppress > 0 {
		out.SuppressPrefixlen = r.Suppress
	}
	if r.From.IsValid() {
		out.Src = netOf(r.From)
	}
	if r.To.IsValid() {
		out.Dst = netOf(r.To)
	}
	return out
}

// A gateway of the other family travels in an attribute of its own.
func gatewayOf(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		return addrOf(v.Addr)
	}
	return addrOf(gw)
}

func splitGateway(dst netip.Prefix, gateway netip.Addr) (net.IP, netlink.Destination) {
	if !gateway.IsValid() || gateway.Is6() == isIPv6(dst) {
		return ipOf(gateway), nil
	}
	family := unix.AF_INET
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	return nil, &netlink.Via{AddrFamily: family, Addr: ipOf(gateway)}
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func prefixOf(n *net.IPNet) netip.Prefix {
	ones, bits := n.Mask.Size()
	addr, _ := netip.AddrFromSlice(n.IP)
	if bits == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones)
}

func ipOf(a netip.Addr) net.IP {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
