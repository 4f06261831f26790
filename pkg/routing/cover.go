package routing

import (
	"net/netip"
	"slices"
)

// unicast likes routes that lead somewhere.
func unicast(r *Route) bool { return r.Type == 0 }

// defaultLike returns the routes of a family that act as a default route: to
// everything, or to parts that together are everything, such as 0.0.0.0/1
// and 128.0.0.0/1, or every address that a host can have. Routes inside a
// part are none of them, unless they are everything together too.
func defaultLike(routes []Route, ipv6 bool) []Route {
	var whole, rest []Route
	for _, r := range routes {
		switch {
		case isIPv6(r.Dst) != ipv6:
		case r.Dst.Bits() == 0:
			whole = append(whole, r)
		default:
			rest = append(rest, r)
		}
	}
	for {
		layer := outerLayer(rest, ipv6)
		if len(layer) == 0 {
			return whole
		}
		whole = append(whole, layer...)
		taken := keysOf(layer)
		rest = slices.DeleteFunc(rest, func(r Route) bool { return taken[r.key()] })
	}
}

// outerLayer returns the widest routes, if together they are everything.
func outerLayer(routes []Route, ipv6 bool) []Route {
	parts := widest(routes)
	all, hosts := everything(ipv6), hostsOf(ipv6)
	if covers(parts, all.Addr(), lastOf(all)) {
		return parts
	}
	if !covers(parts, hosts[0], hosts[1]) {
		return nil
	}
	return slices.DeleteFunc(parts, func(r Route) bool {
		return r.Dst.Masked().Addr().Compare(hosts[1]) > 0 || lastOf(r.Dst).Compare(hosts[0]) < 0
	})
}

// defaultKeys are the keys of the routes that act as a default route of either
// family.
func defaultKeys(routes []Route) map[routeKey]bool {
	return keysOf(append(defaultLike(routes, false), defaultLike(routes, true)...))
}

// hostsOf are the first and the last address that a host on the Internet can
// have.
func hostsOf(ipv6 bool) [2]netip.Addr {
	if ipv6 {
		global := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3)
		return [2]netip.Addr{global.Addr(), lastOf(global)}
	}
	return [2]netip.Addr{netip.AddrFrom4([4]byte{1}), netip.AddrFrom4([4]byte{223, 255, 255, 255})}
}

// widest returns the routes that are inside no other one's destination, by
// address.
func widest(routes []Route) []Route {
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b Route) int {
		if c := a.Dst.Addr().Compare(b.Dst.Addr()); c != 0 {
			return c
		}
		return a.Dst.Bits() - b.Dst.Bits()
	})
	var out []Route
	for _, r := range sorted {
		if len(out) == 0 || !inside(r.Dst, out[len(out)-1].Dst) {
			out = append(out, r)
		}
	}
	return out
}

// inside reports whether a is a proper part of b.
func inside(a, b netip.Prefix) bool {
	return isIPv6(a) == isIPv6(b) && a.Bits() > b.Bits() && b.Contains(a.Addr())
}

// covers reports whether sorted routes reach every address from first to last.
func covers(sorted []Route, first, last netip.Addr) bool {
	next := first // that nobody reaches yet
	for _, r := range sorted {
		if r.Dst.Masked().Addr().Compare(next) > 0 {
			return false
		}
		end := lastOf(r.Dst)
		if end.Compare(last) >= 0 {
			return true
		}
		if end.Compare(next) >= 0 {
			next = end.Next()
		}
	}
	return false
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(raw); bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}
