package routing

import "golang.org/x/sys/unix"

// oneDefault is R2: main has the default routes of the one that R1 chose, and
// nobody else's. Plugins set theirs themselves: of IPv4 the newest comes
// first, of IPv6 it joins the others as one more next hop, so routes are
// told apart by device, gateway and metric.
func (d *decision) oneDefault() error {
	for _, ipv6 := range families() {
		wanted := keysOf(d.carrier(ipv6).Routes)
		have := keysOf(d.After.main(unicast))
		drop := defaultLike(d.foreign(unicast), ipv6)
		for i := range d.NICs {
			drop = append(drop, d.ownDefaults(&d.NICs[i], ipv6)...)
		}
		drop = append(drop, defaultLike(d.Before.main(unicast), ipv6)...)
		gone := map[routeKey]bool{}
		for _, r := range drop {
			if k := r.key(); have[k] && !wanted[k] && !gone[k] {
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
