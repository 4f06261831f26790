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
		drop := defaultLike(d.foreign(unicast), ipv6)
		for i := range d.NICs {
			drop = append(drop, d.ownDefaults(&d.NICs[i], ipv6)...)
		}
		drop = append(drop, defaultLike(d.Before.main(unicast), ipv6)...)
		drop = append(drop, d.newNowhere(ipv6)...)
		for gone, again := map[routeKey]bool{}, true; again; again = len(drop) > 0 {
			d.remove(drop, gone, ipv6)
			drop = d.completing(gone, ipv6)
		}
		have := keysOf(d.After.main(unicast))
		for _, r := range d.carrier(ipv6).Routes {
			if !have[r.key()] {
				d.Added = append(d.Added, r.in(unix.RT_TABLE_MAIN))
			}
		}
	}
	return nil
}

// remove takes default routes out of main that are not the carrier's. The
// cluster network's are noted too when somebody else took them away: Undo
// gives them back.
func (d *decision) remove(drop []Route, gone map[routeKey]bool, ipv6 bool) {
	all := func(*Route) bool { return true }
	have, wanted := keysOf(d.After.main(all)), keysOf(d.carrier(ipv6).Routes)
	for _, r := range drop {
		if k := r.key(); (have[k] || d.before[k]) && !wanted[k] && !gone[k] && !d.learntByCluster(&r) {
			gone[k] = true
			d.Removed = append(d.Removed, r)
		}
	}
}

// completing are the routes that make a default route of what is left in main
// and what the carrier has, besides the cluster network's own parts of one:
// those stay.
func (d *decision) completing(gone map[routeKey]bool, ipv6 bool) []Route {
	wanted := keysOf(d.carrier(ipv6).Routes)
	left := d.After.main(func(r *Route) bool { return unicast(r) && !gone[r.key()] && !d.learntByCluster(r) })
	d.Kept = slices.DeleteFunc(d.Kept, func(r Route) bool { return isIPv6(r.Dst) == ipv6 })
	var out []Route
	for _, r := range defaultLike(append(left, d.carrier(ipv6).Routes...), ipv6) {
		switch {
		case wanted[r.key()]:
		case d.before[r.key()]:
			d.Kept = append(d.Kept, r)
		default:
			out = append(out, r)
		}
	}
	return out
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
	return r.Protocol == unix.RTPROT_RA && d.ofCluster(r.Dev) && d.carrier(isIPv6(r.Dst)).Attachment == 0
}
