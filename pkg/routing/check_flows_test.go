package routing

import (
	"net/netip"
	"slices"
)

// destinations are addresses that tell routes from each other, none of them
// the pod's own.
func (c *checker) destinations() []netip.Addr {
	var out []netip.Addr
	for _, a := range fields("8.8.8.8 100.0.0.1 150.1.1.1 200.1.1.1 2001:4860::8 4444::1 9000::1 d000::1") {
		out = append(out, netip.MustParseAddr(a))
	}
	for _, r := range slices.Concat(c.before.Routes, c.in.After.Routes) {
		out = append(out, inRange(r.Dst))
	}
	for _, r := range slices.Concat(c.ranges, c.plan.Ranges) {
		out = append(out, inRange(r), lastOf(r).Prev())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.DeleteFunc(slices.Compact(out), func(a netip.Addr) bool {
		return !isGlobal(a) || slices.ContainsFunc(c.Addresses, func(o Address) bool { return o.Prefix.Addr() == a })
	})
}

// inRange is some address of a range.
func inRange(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	if free := p.Addr().BitLen() - p.Bits(); free >= 8 {
		raw[len(raw)-1] |= 0x64
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// checkFlows: a packet from a NIC's address leaves by that NIC or not at all
// (R3); one to the cluster's ranges, or from eth0's address, never by a
// secondary (R4).
func (c *checker) checkFlows() {
	if !c.several() {
		return
	}
	dsts := c.destinations()
	for _, nic := range c.nics {
		for _, src := range nic.Addresses {
			for _, dst := range dsts {
				if dst.Is6() != src.Is6() {
					continue
				}
				for _, by := range c.now.lookup(flow{src: src, dst: dst}) {
					if by != nowhere && by != nic.Name && (nic.Attachment > 0 || !c.clusterNIC(by)) {
						c.problem("from", "a packet from %s of %s to %s leaves by %s", src, nic.Name, dst, by)
					}
				}
			}
		}
	}
	if c.first(0) == nil {
		return
	}
	for _, dst := range dsts {
		if !c.inCluster(dst) || !slices.ContainsFunc(c.nics, func(n NIC) bool { return n.has(dst.Is6()) }) {
			continue
		}
		for _, by := range c.now.lookup(flow{dst: dst}) {
			if by != nowhere && !c.clusterNIC(by) {
				c.problem("range", "a packet to %s leaves by %s", dst, by)
			}
		}
	}
}

// inCluster reports whether an address is in a range that is known to be the
// cluster's.
func (c *checker) inCluster(a netip.Addr) bool {
	whole := keysOf(append(wholeOf(c.before.main(unicast), false), wholeOf(c.before.main(unicast), true)...))
	return slices.ContainsFunc(c.ranges, func(p netip.Prefix) bool { return p.Contains(a) }) ||
		slices.ContainsFunc(c.before.main(unicast), func(r Route) bool { return !whole[r.key()] && r.Dst.Contains(a) })
}

// checkReach: nothing that could be reached before cannot be reached now.
func (c *checker) checkReach() {
	before := &kernel{State: *c.before}
	for _, dst := range c.destinations() {
		was := before.lookup(flow{dst: dst})
		now := c.now.lookup(flow{dst: dst})
		host := slices.ContainsFunc(hostRanges(dst.Is6()), func(p netip.Prefix) bool { return p.Contains(dst) })
		if host && !slices.Contains(was, nowhere) && slices.Contains(now, nowhere) {
			c.problem("reach", "the pod reached %s by %v, not now", dst, was)
		}
		for i := range c.nics {
			nic := &c.nics[i]
			if !nic.has(dst.Is6()) {
				continue
			}
			src := nic.Addresses[slices.IndexFunc(nic.Addresses, func(a netip.Addr) bool { return a.Is6() == dst.Is6() })]
			from := c.now.lookup(flow{src: src, dst: dst})
			if !slices.Contains(from, nowhere) {
				continue
			}
			switch mine := c.ownWay(nic, dst); {
			case nic.Attachment == 0 && slices.Equal(was, []string{nic.Name}):
				c.problem("reach of cluster", "%s of %s reached %s, not now", src, nic.Name, dst)
			case nic.Attachment > 0 && len(mine) > 0:
				c.problem("reach of NIC", "%s of %s does not reach %s, though %s has a way", src, nic.Name, dst, nic.Name)
			case slices.Equal(now, []string{nic.Name}):
				c.problem("reach of choice", "the kernel chooses %s and its %s for %s, which does not reach it", nic.Name, src, dst)
			}
		}
	}
}

// ownWay is how a NIC reaches an address by main as its plugins left it.
func (c *checker) ownWay(nic *NIC, dst netip.Addr) []string {
	routes := slices.DeleteFunc(c.in.After.main(unicast), func(r Route) bool { return r.Dev != nic.Name || !c.believed(&r) })
	return lookupIn(routes, 254, flow{dst: dst})
}
