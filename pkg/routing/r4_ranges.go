package routing

import (
	"net/netip"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// keepRanges is R4: the cluster's ranges leave by the cluster network,
// whatever else is attached.
func (d *decision) keepRanges() error {
	if err := d.checkMoved(); err != nil {
		return err
	}
	eth0 := d.of(0)
	if eth0 == nil || !d.secondaries() {
		return nil
	}
	ranges := slices.Concat(d.Input.Ranges, d.clusterSubnets())
	if eth0.has(false) {
		ranges = append(ranges, nodeLocalDNS())
	}
	d.Plan.Ranges = outermost(ranges)
	// Without an address of its family nothing is sent to a range, and IPv6 may
	// be off.
	d.Plan.Ranges = slices.DeleteFunc(d.Plan.Ranges, func(r netip.Prefix) bool { return !d.uses(isIPv6(r)) })
	for _, r := range d.Plan.Ranges {
		d.ensureTable(eth0, isIPv6(r))
		d.Rules = append(d.Rules, Rule{Priority: rangesPref, IPv6: isIPv6(r), To: r, Table: eth0.Table})
	}
	return nil
}

// uses reports whether a NIC has an address of the family.
func (p *Plan) uses(ipv6 bool) bool {
	return slices.ContainsFunc(p.NICs, func(n NIC) bool { return n.has(ipv6) })
}

// nodeLocalDNS is the address that NodeLocal DNSCache takes on every node.
func nodeLocalDNS() netip.Prefix { return host(netip.AddrFrom4([4]byte{169, 254, 20, 10})) }

// clusterSubnets are what the cluster network has routes to, defaults left out.
func (d *decision) clusterSubnets() []netip.Prefix {
	routes := d.Before.main(unicast)
	skip := defaultKeys(routes)
	var out []netip.Prefix
	for _, r := range routes {
		if !skip[r.key()] && isGlobal(r.Dst.Addr()) {
			out = append(out, r.Dst)
		}
	}
	return out
}

// outermost drops ranges that are inside others, and sorts.
func outermost(ranges []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		if !slices.ContainsFunc(ranges, func(o netip.Prefix) bool { return inside(r, o) }) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	return slices.Compact(out)
}

// checkMoved warns, or fails when strict, when a selection moves a default
// route while it is not known where the pods and the Services are: traffic to
// them may go along. Who asked gets it all the same (NPWG 4.1.2.1.9).
func (d *decision) checkMoved() error {
	for _, ipv6 := range families() {
		carrier, eth0 := d.carrier(ipv6), d.of(0)
		if !carrier.Asked || eth0 == nil || !eth0.has(ipv6) {
			continue
		}
		missing := d.unknownRanges(eth0, ipv6)
		if missing == "" {
			continue
		}
		const what = "%s moves the %s default route to %s, but multiplexer does not know the cluster's %s: that traffic would leave by %s too; name the ranges of pods and Services in clusterCIDRs of multiplexer's configuration"
		args := []any{d.Networks[carrier.Attachment], familyName(ipv6), carrier.NIC, missing, carrier.NIC}
		if d.Strict {
			return network.Invalid.Errorf(what+" (routing.strict)", args...)
		}
		d.warn(what, args...)
	}
	return nil
}

// unknownRanges says which of the cluster's ranges nobody named. The range of
// the pods holds the pod's own address and is more than the node's slice of
// it: the administrator named it, or it is wider than the pod's own subnet.
// The range of the Services is one without the pod's address.
func (d *decision) unknownRanges(eth0 *NIC, ipv6 bool) string {
	pods, services := false, false
	see := func(r netip.Prefix, named bool) {
		if isIPv6(r) != ipv6 {
			return
		}
		holds := slices.ContainsFunc(eth0.Addresses, r.Contains)
		pods = pods || holds && (named || d.widerThanOwn(eth0, r))
		services = services || !holds && !r.IsSingleIP()
	}
	for _, r := range d.Input.Ranges {
		see(r, true)
	}
	for _, r := range d.clusterSubnets() {
		see(r, false)
	}
	switch {
	case pods && services:
		return ""
	case pods:
		return "Service range"
	case services:
		return "pod range"
	}
	return "pod and Service ranges"
}

// widerThanOwn reports whether a range is more than the pod's own subnet. Of
// a pod with a single address (Calico, Cilium) the node's slice is not known,
// so that nothing is known to be wider.
func (d *decision) widerThanOwn(eth0 *NIC, r netip.Prefix) bool {
	for _, a := range d.After.Addresses {
		if a.Dev == eth0.Name && r.Contains(a.Prefix.Addr()) {
			return !a.Prefix.IsSingleIP() && r.Bits() < a.Prefix.Bits()
		}
	}
	return false
}
