package routing

import "slices"

// nameOverlaps is R6: networks may overlap, but whoever loses is named. Two
// attachments on one subnet are two ways to it; a secondary on one of the
// cluster's ranges is reached by sockets bound to it alone.
func (d *decision) nameOverlaps() error {
	d.nameForeignRules()
	skip := keysOf(d.Removed)
	for i := range d.NICs {
		nic := &d.NICs[i]
		if nic.Attachment == 0 {
			continue
		}
		for _, r := range d.After.main(func(r *Route) bool { return unicast(r) && r.by(nic.Name) && !skip[r.key()] && r.Dst.Bits() > 0 }) {
			if d.carriesAll(nic, &r) {
				continue
			}
			for _, cluster := range d.Plan.Ranges {
				if cluster.Overlaps(r.Dst) && cluster != nodeLocalDNS() {
					d.warn("%s: its %s overlaps the cluster's %s, which leaves by %s: only sockets bound to %s reach that network", d.Networks[nic.Attachment], r.Dst, cluster, d.eth0(), nic.Name)
				}
			}
		}
	}
	return nil
}

// nameForeignRules names what plugins put before the rules that are set here.
func (d *decision) nameForeignRules() {
	for _, r := range d.After.Rules {
		if r.Priority > 0 && r.Priority <= rangesPref && !r.ours() && !slices.Contains(d.Before.Rules, r) {
			d.warn("a network's plugin added the rule %q: it comes before multiplexer's, and decides first", r)
		}
	}
}

// carriesAll reports whether the route is one of those that carry everything.
func (d *decision) carriesAll(nic *NIC, r *Route) bool {
	c := d.carrier(isIPv6(r.Dst))
	return c.NIC == nic.Name && keysOf(c.Routes)[r.key()]
}
