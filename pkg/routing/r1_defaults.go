package routing

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// chooseDefaults is R1: who carries the default route of each family. That
// is the cluster network, unless a selection has default-route (NPWG
// 4.1.2.1.9); where the cluster network has none, the first attachment that
// has one.
func (d *decision) chooseDefaults() error {
	for i := range d.Networks {
		if i > 0 && d.Networks[i].DefaultRoute != nil {
			if err := d.moveDefaults(i, *d.Networks[i].DefaultRoute); err != nil {
				return err
			}
		}
	}
	for _, ipv6 := range families() {
		if d.carrier(ipv6).NIC != "" {
			continue
		}
		for i := range d.NICs {
			nic := &d.NICs[i]
			if own := d.ownDefaults(nic, ipv6); nic.Attachment > 0 && len(own) > 0 {
				*d.carrier(ipv6) = Carrier{Attachment: nic.Attachment, NIC: nic.Name, Routes: onlyBy(own, nic.Name)}
				d.warn("the cluster network has no %s default route: %s carries it", familyName(ipv6), d.Networks[nic.Attachment])
				break
			}
		}
	}
	return nil
}

// carrier returns who carries a family's default route.
func (p *Plan) carrier(ipv6 bool) *Carrier {
	if ipv6 {
		return &p.Carriers[1]
	}
	return &p.Carriers[0]
}

// String names the network in messages.
func (n Network) String() string { return n.Attachment.String() }

// moveDefaults gives an attachment the default routes that its selection
// asks for. No gateways means those that its own plugins set.
func (d *decision) moveDefaults(i int, gateways []netip.Addr) error {
	nic := d.of(i)
	if nic == nil {
		return network.Invalid.Errorf("%s: \"default-route\": it has no kernel device in the pod that could carry a default route; take the key away, or give it to another network", d.Networks[i])
	}
	if len(gateways) == 0 {
		return d.keepOwn(i, nic)
	}
	moved := map[bool][]Route{}
	for _, gateway := range gateways {
		ipv6 := gateway.Is6()
		if err := d.checkGateway(i, nic, gateway); err != nil {
			return err
		}
		route := d.defaultVia(nic, gateway)
		route.Metric += len(moved[ipv6]) // the order is the preference
		moved[ipv6] = append(moved[ipv6], route)
	}
	for ipv6, routes := range moved {
		*d.carrier(ipv6) = Carrier{Attachment: i, NIC: nic.Name, Routes: routes, Asked: true}
	}
	return nil
}

// keepOwn is default-route with an empty list.
func (d *decision) keepOwn(i int, nic *NIC) error {
	found := false
	for _, ipv6 := range families() {
		own := d.ownDefaults(nic, ipv6)
		if len(own) == 0 {
			own = d.elsewhereDefaults(nic, ipv6)
		}
		if len(own) > 0 {
			*d.carrier(ipv6) = Carrier{Attachment: i, NIC: nic.Name, Routes: onlyBy(own, nic.Name), Asked: true}
			found = true
		}
	}
	if !found {
		d.warn("%s: \"default-route\" names no gateway, and the network sets no default route of its own: the cluster network keeps it", d.Networks[i])
	}
	return nil
}

// checkGateway reports a gateway that the NIC cannot reach directly.
func (d *decision) checkGateway(i int, nic *NIC, gateway netip.Addr) error {
	const field = "%s: \"default-route\" %s: "
	switch {
	case !nic.has(gateway.Is6()):
		return network.Invalid.Errorf(field+"%s has no %s address; name a gateway of a family that the network gives", d.Networks[i], gateway, nic.Name, familyName(gateway.Is6()))
	case slices.Contains(nic.Addresses, gateway):
		return network.Invalid.Errorf(field+"that is the address of %s itself, not of a gateway", d.Networks[i], gateway, nic.Name)
	case d.isBroadcast(nic.Name, gateway):
		return network.Invalid.Errorf(field+"that is no host's address; name a gateway on %s", d.Networks[i], gateway, d.subnets(nic.Name, gateway.Is6()))
	case !d.onLink(nic.Name, gateway):
		return network.Invalid.Errorf(field+"%s reaches %s directly, and the gateway is not there; name one that is", d.Networks[i], gateway, nic.Name, d.subnets(nic.Name, gateway.Is6()))
	}
	return nil
}

// isBroadcast reports whether an address is the first or the last of a NIC's
// IPv4 subnets.
func (d *decision) isBroadcast(nic string, a netip.Addr) bool {
	return slices.ContainsFunc(d.After.Addresses, func(own Address) bool {
		subnet := own.Prefix.Masked()
		return own.Dev == nic && a.Is4() && subnet.Addr().Is4() && subnet.Bits() < 31 && (a == subnet.Addr() || a == lastOf(subnet))
	})
}

// onLink reports whether a NIC reaches an address without a gateway.
func (d *decision) onLink(nic string, a netip.Addr) bool {
	return d.inSubnet(nic, a) || slices.ContainsFunc(d.After.Routes, func(r Route) bool {
		return r.Dev == nic && unicast(&r) && !r.Gateway.IsValid() && r.Dst.Bits() > 0 && r.Dst.Contains(a)
	})
}

// inSubnet reports whether a NIC's address has the other one on its subnet.
func (d *decision) inSubnet(nic string, a netip.Addr) bool {
	return a.Is6() && a.IsLinkLocalUnicast() || slices.ContainsFunc(d.After.Addresses, func(own Address) bool {
		return own.Dev == nic && own.Prefix.Contains(a)
	})
}

// mayReach reports whether an address can be a gateway of a NIC: on-link, or
// at least not on-link at another NIC.
func (d *decision) mayReach(nic *NIC, a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	return d.onLink(nic.Name, a) || !slices.ContainsFunc(d.NICs, func(o NIC) bool { return o.Name != nic.Name && d.onLink(o.Name, a) })
}

// subnets lists what a NIC's addresses reach directly, for messages.
func (d *decision) subnets(nic string, ipv6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range d.After.Addresses {
		if a.Dev == nic && isIPv6(a.Prefix) == ipv6 {
			out = append(out, a.Prefix.Masked())
		}
	}
	return out
}

// ownDefaults are the default routes by the NIC in main that its network's
// plugins set.
func (d *decision) ownDefaults(nic *NIC, ipv6 bool) []Route {
	own := defaultLike(d.foreign(func(r *Route) bool { return r.by(nic.Name) }), ipv6)
	carry := func(r Route) bool { return r.TOS == 0 } // not some services only
	if !d.After.link(nic.Name).Up || !slices.ContainsFunc(own, carry) {
		return nil
	}
	return own
}

// foreign are the routes of main that came after the cluster network's.
func (d *decision) foreign(like func(*Route) bool) []Route {
	return d.After.main(func(r *Route) bool { return unicast(r) && !d.before[r.key()] && !d.learnt(r) && like(r) })
}

// learnt reports whether a route came from a router that advertised itself
// on a secondary whose definition does not want that.
func (d *decision) learnt(r *Route) bool {
	nic := d.nic(r.Dev)
	return r.Protocol == unix.RTPROT_RA && nic != nil && nic.Attachment > 0 && !d.believesRouters(nic)
}

// elsewhereDefaults are the default routes that a network has without main:
// in a table of its plugins (sbr moves them there), or in its result.
func (d *decision) elsewhereDefaults(nic *NIC, ipv6 bool) []Route {
	var moved []Route
	for _, r := range d.After.Routes {
		if r.by(nic.Name) && unicast(&r) && otherTable(r.Table) {
			moved = append(moved, r.in(unix.RT_TABLE_MAIN))
		}
	}
	out := defaultLike(moved, ipv6)
	if len(out) > 0 || d.of(nic.Attachment) != nic || !d.After.link(nic.Name).Up {
		return out
	}
	for _, r := range d.Networks[nic.Attachment].Result.Routes {
		if dst := prefixOf(&r.Dst); dst == everything(ipv6) && inMain(r) && r.GW != nil && d.mayReach(nic, addrOf(r.GW)) {
			out = append(out, d.defaultVia(nic, addrOf(r.GW)))
		}
	}
	return out
}

// defaultVia is a default route by a NIC.
func (d *decision) defaultVia(nic *NIC, gateway netip.Addr) Route {
	dst := everything(gateway.Is6())
	return Route{
		Table: unix.RT_TABLE_MAIN, Dst: dst, Gateway: gateway, Dev: nic.Name, Metric: plainMetric(dst),
		Onlink: !d.inSubnet(nic.Name, gateway),
	}
}

// otherTable reports whether a table is neither main nor one of ours.
func otherTable(table int) bool { return table != unix.RT_TABLE_MAIN && !ourTable(table) }

func keysOf(routes []Route) map[routeKey]bool {
	keys := map[routeKey]bool{}
	for i := range routes {
		keys[routes[i].key()] = true
	}
	return keys
}
