package routing

import (
	"net/netip"
	"slices"
)

// unicast likes routes that lead somewhere.
func unicast(r *Route) bool { return r.Type == 0 }

// defaultLike returns the routes of a family that act as a default route: to
// everything, or to parts that together are everything, such as 0.0.0.0/1
// and 128.0.0.0/1. Routes inside a part are none of them.
func defaultLike(routes []Route, ipv6 bool) []Route {
	var whole, parts []Route
	for _, r := range routes {
		switch {
		case isIPv6(r.Dst) != ipv6:
		case r.Dst.Bits() == 0:
			whole = append(whole, r)
		case !slices.ContainsFunc(routes, func(o Route) bool { return inside(r.Dst, o.Dst) && o.Dst.Bits() > 0 }):
			parts = append(parts, r)
		}
	}
	if covers(parts) {
		whole = append(whole, parts...)
	}
	return whole
}

// inside reports whether a is a proper part of b.
func inside(a, b netip.Prefix) bool {
	return isIPv6(a) == isIPv6(b) && a.Bits() > b.Bits() && b.Contains(a.Addr())
}

// covers reports whether routes of one family reach every address of it.
func covers(routes []Route) bool {
	sorted := slices.Clone(routes)
	slices.SortFunc(sorted, func(a, b Route) int { return a.Dst.Addr().Compare(b.Dst.Addr()) })
	var next netip.Addr // the first address that nobody reaches yet
	for i, r := range sorted {
		first := r.Dst.Masked().Addr()
		if i == 0 {
			if !first.IsUnspecified() {
				return false
			}
		} else if first.Compare(next) > 0 {
			return false
		}
		after := lastOf(r.Dst).Next()
		if !after.IsValid() { // the family's last address
			return true
		}
		if i == 0 || after.Compare(next) > 0 {
			next = after
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
