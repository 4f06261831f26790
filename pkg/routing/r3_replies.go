package routing

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// replyByRequest is R3: every address of every NIC has a rule that sends its
// packets by that NIC's own table, so that a reply leaves by the NIC that the
// request came in by. A socket that is bound to the device goes the same way.
func (d *decision) replyByRequest() error {
	if !d.secondaries() {
		return nil
	}
	for i := range d.NICs {
		nic := &d.NICs[i]
		d.keepMain(nic)
		for _, ipv6 := range families() {
			if !nic.has(ipv6) {
				continue
			}
			d.ensureTable(nic, ipv6)
			for _, a := range nic.Addresses {
				if a.Is6() == ipv6 {
					d.Rules = append(d.Rules, Rule{Priority: repliesPref, IPv6: ipv6, From: host(a), Table: nic.Table})
				}
			}
			d.Rules = append(d.Rules, Rule{Priority: repliesPref, IPv6: ipv6, OIF: nic.Name, Table: nic.Table})
		}
	}
	for i := range d.NICs {
		d.Rules = append(d.Rules, d.ownSubnets(&d.NICs[i])...)
	}
	return nil
}

// ownSubnets let a NIC's address reach its subnet by main, where no other NIC
// can be meant: a NIC that was down gets its subnet's route back there, from
// the kernel, and the table's copy is gone for good.
func (d *decision) ownSubnets(nic *NIC) []Rule {
	var out []Rule
	for _, a := range d.After.Addresses {
		subnet := a.Prefix.Masked()
		if a.Dev != nic.Name || !slices.Contains(nic.Addresses, a.Prefix.Addr()) || subnet.Bits() < 2 || subnet.IsSingleIP() || d.shared(nic, subnet) {
			continue
		}
		out = append(out, Rule{
			Priority: subnetPref, IPv6: isIPv6(subnet), From: host(a.Prefix.Addr()), To: subnet, Table: unix.RT_TABLE_MAIN, Suppress: subnet.Bits() - 1,
		})
	}
	return out
}

// shared reports whether another NIC is in a subnet, or has a route into it.
func (d *decision) shared(nic *NIC, subnet netip.Prefix) bool {
	return slices.ContainsFunc(d.After.Addresses, func(a Address) bool { return a.Dev != nic.Name && subnet.Contains(a.Prefix.Addr()) }) ||
		slices.ContainsFunc(slices.Concat(d.After.main(unicast), d.Added), func(r Route) bool {
			return !r.by(nic.Name) && (r.Dst == subnet || inside(r.Dst, subnet))
		})
}

// ensureTable fills a NIC's table with copies of its routes, and its default
// route. It ends nowhere: what the table does not know must not leave by
// another NIC, also after the NIC went down and took its routes along.
func (d *decision) ensureTable(nic *NIC, ipv6 bool) {
	if slices.ContainsFunc(d.Routes, func(r Route) bool { return r.Table == nic.Table && isIPv6(r.Dst) == ipv6 }) {
		return
	}
	routes := d.secondaryRoutes(nic, ipv6)
	if nic.Name == d.eth0() {
		routes = d.clusterRoutes(ipv6)
	}
	if linkLocal := netip.MustParsePrefix("fe80::/64"); ipv6 && nic.has(true) && !slices.ContainsFunc(routes, func(r Route) bool { return r.Dst == linkLocal && r.Dev == nic.Name }) {
		routes = append(routes, Route{Dst: linkLocal, Dev: nic.Name, Metric: plainMetric(linkLocal)})
	}
	seen := map[routeKey]bool{}
	for _, r := range append(routes, Route{Dst: everything(ipv6), Metric: backstopMetric, Type: unix.RTN_UNREACHABLE}) {
		if r = r.in(nic.Table); !r.Encap && !seen[r.key()] {
			seen[r.key()] = true
			d.Routes = append(d.Routes, r)
		}
	}
}

// clusterRoutes are main as the cluster network left it, and what others
// added by its NICs besides default routes.
func (d *decision) clusterRoutes(ipv6 bool) []Route {
	family := func(r *Route) bool { return unicast(r) && isIPv6(r.Dst) == ipv6 }
	gone := keysOf(d.Removed)
	more := d.foreign(func(r *Route) bool {
		return family(r) && !gone[r.key()] && r.everyDev(d.ofCluster)
	})
	return append(d.Before.main(family), more...)
}

// secondaryRoutes are the NIC's routes of main, those that its plugins put
// into tables of their own, and one way to everything else, if there is one.
func (d *decision) secondaryRoutes(nic *NIC, ipv6 bool) []Route {
	mine := func(r *Route) bool {
		return unicast(r) && isIPv6(r.Dst) == ipv6 && r.by(nic.Name) && !d.learnt(r)
	}
	own, elsewhere := d.ownDefaults(nic, ipv6), d.elsewhereDefaults(nic, ipv6)
	if nic.Attachment == 0 {
		own = defaultLike(d.Before.main(mine), ipv6)
	}
	skip := keysOf(append(own, elsewhere...))
	own, elsewhere = onlyBy(own, nic.Name), onlyBy(elsewhere, nic.Name)
	out := onlyBy(d.After.main(func(r *Route) bool { return mine(r) && r.Dst.Bits() > 0 && !skip[r.key()] }), nic.Name)
	for _, r := range d.After.Routes {
		moved := r.in(unix.RT_TABLE_MAIN)
		if otherTable(r.Table) && mine(&r) && r.Dst.Bits() > 0 && !skip[moved.key()] && !reaches(out, r.Dst) {
			out = append(out, r.only(nic.Name))
		}
	}
	return append(out, d.wayOut(nic, ipv6, own, elsewhere)...)
}

// wayOut is a NIC's one way to everything else.
func (d *decision) wayOut(nic *NIC, ipv6 bool, own, elsewhere []Route) []Route {
	switch carrier := d.carrier(ipv6); {
	case carrier.NIC == nic.Name:
		return carrier.Routes
	case len(own) > 0:
		return own
	case len(elsewhere) > 0:
		return elsewhere
	}
	if gateway := d.gateway(nic, ipv6); gateway.IsValid() {
		return []Route{d.defaultVia(nic, gateway)}
	}
	return nil
}

func reaches(routes []Route, dst netip.Prefix) bool {
	return slices.ContainsFunc(routes, func(r Route) bool { return r.Dst == dst })
}

// gateway returns what the network's result says is the NIC's gateway.
func (d *decision) gateway(nic *NIC, ipv6 bool) netip.Addr {
	result := d.Networks[nic.Attachment].Result
	for _, ip := range result.IPs {
		if ip.Interface == nil || result.Interfaces[*ip.Interface].Name != nic.Name {
			continue
		}
		if gateway := addrOf(ip.Gateway); gateway.IsValid() && gateway.Is6() == ipv6 && d.owner(gateway) == "" && d.mayReach(nic, gateway) {
			return gateway
		}
	}
	return netip.Addr{}
}

// keepMain puts back into main what a plugin moved from there into a table of
// its own (sbr does): main keeps every route but defaults, and the plugins'
// own CHECK looks for them there.
func (d *decision) keepMain(nic *NIC) {
	if nic.Attachment == 0 {
		return
	}
	have := d.After.main(func(r *Route) bool { return r.by(nic.Name) })
	defaults := keysOf(append(d.elsewhereDefaults(nic, false), d.elsewhereDefaults(nic, true)...))
	for _, dst := range d.belongsInMain(nic) {
		for _, r := range d.After.Routes {
			back := r.in(unix.RT_TABLE_MAIN)
			moved := r.Dst == dst && r.by(nic.Name) && otherTable(r.Table) && !r.Encap
			if moved && !defaults[back.key()] && !reaches(have, dst) && !d.makesDefault(&back) {
				d.Added, have = append(d.Added, back), append(have, back)
			}
		}
	}
}

// makesDefault reports whether a route would be a default route in main, with
// what main is to hold.
func (d *decision) makesDefault(r *Route) bool {
	gone := keysOf(d.Removed)
	main := append(d.After.main(func(o *Route) bool { return unicast(o) && !gone[o.key()] }), d.Added...)
	return keysOf(defaultLike(append(main, *r), isIPv6(r.Dst)))[r.key()]
}

// belongsInMain are the NIC's subnets and the destinations that its network's
// result names without a table.
func (d *decision) belongsInMain(nic *NIC) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range d.After.Addresses {
		if a.Dev == nic.Name && !a.Prefix.IsSingleIP() {
			out = append(out, a.Prefix.Masked())
		}
	}
	for _, r := range d.Networks[nic.Attachment].Result.Routes {
		if inMain(r) {
			out = append(out, prefixOf(&r.Dst).Masked())
		}
	}
	return out
}
