package routing

import (
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// wholeOf returns a family's routes that are a default route, alone or
// together.
func wholeOf(routes []Route, ipv6 bool) []Route {
	out := outerOf(routes, ipv6)
	outer := keysOf(out)
	rest := slices.DeleteFunc(slices.Clone(routes), func(r Route) bool { return outer[r.key()] })
	if len(out) == 0 || len(rest) == 0 {
		return out
	}
	return append(out, wholeOf(rest, ipv6)...)
}

// outerOf is wholeOf without routes inside of others. Every address that a
// host can have is everything too.
func outerOf(routes []Route, ipv6 bool) []Route {
	parts := slices.DeleteFunc(slices.Clone(routes), func(r Route) bool {
		return isIPv6(r.Dst) != ipv6 || r.Dst.Bits() == 0
	})
	counts := hostRanges(ipv6)
	if reached(everything(ipv6), parts) {
		counts = []netip.Prefix{everything(ipv6)}
	} else if slices.ContainsFunc(counts, func(p netip.Prefix) bool { return !reached(p, parts) }) {
		counts = nil
	}
	return slices.DeleteFunc(slices.Clone(routes), func(r Route) bool {
		within := slices.ContainsFunc(parts, func(o Route) bool { return o.Dst != r.Dst && o.Dst.Overlaps(r.Dst) && o.Dst.Bits() < r.Dst.Bits() })
		counted := slices.ContainsFunc(counts, r.Dst.Overlaps)
		return isIPv6(r.Dst) != ipv6 || r.Dst.Bits() > 0 && (!counted || within)
	})
}

func hostRanges(ipv6 bool) []netip.Prefix {
	if ipv6 {
		return prefixes("2000::/3")
	}
	return prefixes("1.0.0.0/8 2.0.0.0/7 4.0.0.0/6 8.0.0.0/5 16.0.0.0/4 32.0.0.0/3 64.0.0.0/2 128.0.0.0/2 192.0.0.0/4 208.0.0.0/4")
}

// reached reports whether routes reach all of a range.
func reached(p netip.Prefix, routes []Route) bool {
	some := false
	for _, r := range routes {
		if r.Dst.Bits() <= p.Bits() && r.Dst.Contains(p.Addr()) {
			return true
		}
		some = some || p.Overlaps(r.Dst)
	}
	if !some {
		return false
	}
	lower := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	raw := p.Addr().AsSlice()
	raw[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	higher, _ := netip.AddrFromSlice(raw)
	return reached(lower, routes) && reached(netip.PrefixFrom(higher, lower.Bits()), routes)
}

// foreign are the routes of main that the secondaries' plugins made.
func (c *checker) foreign(like func(*Route) bool) []Route {
	was := keysOf(c.before.main(unicast))
	return c.in.After.main(func(r *Route) bool { return unicast(r) && !was[r.key()] && c.believed(r) && like(r) })
}

// own are the default routes that a NIC's plugins made in main.
func (c *checker) own(nic string, ipv6 bool) []Route {
	out := wholeOf(c.foreign(func(r *Route) bool { return r.by(nic) }), ipv6)
	carry := func(r Route) bool { return r.TOS == 0 } // not some services only
	if !c.up(nic) || !slices.ContainsFunc(out, carry) {
		return nil
	}
	return out
}

// hopsBy are routes without next hops by other NICs.
func hopsBy(nic string, routes []Route) []Route {
	for i, r := range routes {
		hops := slices.DeleteFunc(slices.Clone(r.Hops), func(h Hop) bool { return h.Dev != nic })
		if len(hops) == 1 {
			routes[i].Gateway, routes[i].Dev, hops = hops[0].Gateway, nic, nil
		}
		routes[i].Hops = hops
	}
	return routes
}

// elsewhere are those that they made in other tables, or only returned.
func (c *checker) elsewhere(nic *NIC, ipv6 bool) []Route {
	var out []Route
	for _, r := range c.in.After.Routes {
		if r.by(nic.Name) && r.Table != unix.RT_TABLE_MAIN {
			out = append(out, r.in(unix.RT_TABLE_MAIN))
		}
	}
	if out = wholeOf(out, ipv6); len(out) > 0 || c.first(nic.Attachment) != nic || !c.up(nic.Name) {
		return out
	}
	for _, r := range c.parts[nic.Attachment].result.Routes {
		if inMain(r) && r.GW != nil && c.mayReach(nic, addrOf(r.GW)) && routeOf(r).Dst == everything(ipv6) {
			dst := everything(ipv6)
			out = append(out, Route{Table: unix.RT_TABLE_MAIN, Dst: dst, Gateway: addrOf(r.GW), Dev: nic.Name, Metric: plainMetric(dst)})
		}
	}
	return out
}

// mayReach reports whether an address can be a gateway of a NIC: it is not at
// another one.
func (c *checker) mayReach(nic *NIC, gateway netip.Addr) bool {
	return !gateway.IsUnspecified() && (c.direct(nic.Name, gateway) || !slices.ContainsFunc(c.nics, func(o NIC) bool { return c.direct(o.Name, gateway) }))
}

// wanted are a family's default routes by R1, and whose they are.
func (c *checker) wanted(ipv6 bool) ([]Route, int) {
	for i, p := range c.parts {
		if p.asked == nil {
			continue
		}
		nic, out := c.first(i), []Route(nil)
		for _, gateway := range *p.asked {
			if dst := everything(ipv6); gateway.Is6() == ipv6 {
				out = append(out, Route{Table: unix.RT_TABLE_MAIN, Dst: dst, Gateway: gateway, Dev: nic.Name, Metric: plainMetric(dst) + len(out)})
			}
		}
		if len(*p.asked) == 0 {
			if out = hopsBy(nic.Name, c.own(nic.Name, ipv6)); len(out) == 0 {
				out = c.elsewhere(nic, ipv6)
			}
		}
		if len(out) > 0 {
			return out, i
		}
	}
	if out := wholeOf(c.before.main(unicast), ipv6); len(out) > 0 {
		return out, 0
	}
	for i := range c.nics {
		if out := hopsBy(c.nics[i].Name, c.own(c.nics[i].Name, ipv6)); c.nics[i].Attachment > 0 && len(out) > 0 {
			return out, c.nics[i].Attachment
		}
	}
	return nil, 0
}

// checkDefaults: main has the default routes of the one that R1 chooses, and
// no others.
func (c *checker) checkDefaults() {
	main := c.now.main(unicast)
	for _, ipv6 := range families() {
		routes, attachment := c.wanted(ipv6)
		wanted, there, kept := keysOf(routes), keysOf(main), c.kept(ipv6)
		nics := map[string]bool{}
		for _, r := range routes {
			if !there[r.key()] {
				c.problem("default", "%q is not in main", &r)
			}
			for _, dev := range r.devices() {
				nics[dev] = true
			}
		}
		if len(nics) > 1 && attachment > 0 {
			c.problem("default of two", "%v", routes)
		}
		for _, r := range wholeOf(main, ipv6) {
			if !wanted[r.key()] && !kept[r.key()] {
				c.problem("stranger", "%q is in main", &r)
			}
		}
		if carrier := c.plan.carrier(ipv6); carrier.Attachment != attachment || (carrier.NIC != "") != (len(routes) > 0) ||
			carrier.NIC != "" && !nics[carrier.NIC] {
			c.problem("carrier", "%+v, want one of %v with %v", carrier, nics, routes)
		}
	}
}

// kept are the cluster network's routes that are no default route, though
// others may make one of them.
func (c *checker) kept(ipv6 bool) map[routeKey]bool {
	out := keysOf(c.before.main(unicast))
	for _, r := range wholeOf(c.before.main(unicast), ipv6) {
		delete(out, r.key())
	}
	return out
}

// checkKept: main keeps every other route.
func (c *checker) checkKept() {
	there := keysOf(c.now.main(unicast))
	drop := c.superfluous(false)
	maps.Copy(drop, c.superfluous(true))
	for _, r := range c.in.After.main(unicast) {
		if !drop[r.key()] && c.believed(&r) && !there[r.key()] {
			c.problem("kept", "%q is gone", &r)
		}
	}
	for _, a := range c.Addresses {
		if nic := c.plan.nic(a.Dev); nic != nil && nic.Attachment > 0 && c.several() && !a.Prefix.IsSingleIP() {
			c.checkBack(nic.Name, a.Prefix.Masked())
		}
	}
	for _, nic := range c.nics {
		for _, r := range c.parts[nic.Attachment].result.Routes {
			if dst := routeOf(r).Dst; inMain(r) && nic.Attachment > 0 && !isDefault(dst) {
				c.checkBack(nic.Name, dst)
			}
		}
	}
}

// checkBack: what plugins moved from main to another table is in main again.
func (c *checker) checkBack(nic string, dst netip.Prefix) {
	to := func(r Route) bool { return r.Dst == dst && r.by(nic) }
	if slices.ContainsFunc(c.in.After.Routes, to) && !slices.ContainsFunc(c.now.main(unicast), to) {
		c.problem("back", "main has no route to %s by %s", dst, nic)
	}
}

// isDefault reports whether a route may be part of a default route here.
func isDefault(p netip.Prefix) bool { return p.Bits() <= 2 }

// superfluous are the routes that are a family's default route: by themselves,
// of one network, of all, or with what stays when those are gone.
func (c *checker) superfluous(ipv6 bool) map[routeKey]bool {
	was := keysOf(c.before.main(unicast))
	more := slices.Concat(wholeOf(c.before.main(unicast), ipv6), wholeOf(c.foreign(unicast), ipv6))
	for _, nic := range c.nics {
		more = append(more, c.own(nic.Name, ipv6)...)
	}
	routes, _ := c.wanted(ipv6)
	wanted, out := keysOf(routes), map[routeKey]bool{}
	for again := true; again; again = len(more) > 0 {
		maps.Copy(out, keysOf(more))
		left := slices.DeleteFunc(c.in.After.main(unicast), func(r Route) bool { return out[r.key()] })
		more = slices.DeleteFunc(wholeOf(append(left, routes...), ipv6), func(r Route) bool {
			return wanted[r.key()] || was[r.key()] || out[r.key()]
		})
	}
	return out
}
