package routing

import (
	"slices"

	"golang.org/x/sys/unix"
)

// oneDefault is R2: main has the default routes of the one that R1 chose, and
// nobody else's. Plugins set theirs themselves: of IPv4 the newest comes
// first, of IPv6 it joins the others as one more next hop, so routes are
// told apart by device, gateway and metric.
func (d *decision) oneDefault() error {
	for _, ipv6 := range families() {
		wanted := keysOf(d.carrier(ipv6).Routes)
		have := keysOf(d.After.main(func(*Route) bool { return true }))
		drop := defaultLike(d.foreign(unicast), ipv6)
		for i := range d.NICs {
			drop = append(drop, d.ownDefaults(&d.NICs[i], ipv6)...)
		}
		drop = append(drop, defaultLike(d.Before.main(unicast), ipv6)...)
		drop = append(drop, d.newNowhere(ipv6)...)
		drop = append(drop, d.strangers(d.After, ipv6)...)
		gone := map[routeKey]bool{}
		for _, r := range drop {
			if k := r.key(); have[k] && !wanted[k] && !gone[k] && !d.learntByCluster(&r) {
				gone[k] = true
				d.Removed = append(d.Removed, r)
			}
		}
		for _, r := range d.carrier(ipv6).Routes {
			if !have[r.key()] {
				d.Added = append(d.Added, r.in(unix.RT_TABLE_MAIN))
			}
		}
	}
	return nil
}

// newNowhere are default routes to nowhere (blackhole, unreachable) that came
// after the cluster network's.
func (d *decision) newNowhere(ipv6 bool) []Route {
	nowhere := func(r *Route) bool { return !unicast(r) }
	before := keysOf(d.Before.main(nowhere))
	return slices.DeleteFunc(defaultLike(d.After.main(nowhere), ipv6), func(r Route) bool { return before[r.key()] })
}

// learntByCluster reports a default route that a router of the cluster network
// advertised: the cluster network's business, unless the default moves.
func (d *decision) learntByCluster(r *Route) bool {
	nic, carrier := d.nic(r.Dev), d.carrier(isIPv6(r.Dst))
	return r.Protocol == unix.RTPROT_RA && nic != nil && nic.Attachment == 0 && carrier.Attachment == 0
}
