package routing

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

func fields(s string) []string { return strings.Fields(s) }

// makeMischief chooses what a network's plugins do besides: what sbr does,
// what other programs do, what a definition sets.
func (w *world) makeMischief(p *part) {
	moves := w.rarely(8)
	switch w.n(16) {
	case 15: // the cluster's default goes
		for _, ipv6 := range families() {
			for _, r := range wholeOf(w.before.main(unicast), ipv6) {
				w.do(op{kind: opUnroute, route: r})
			}
		}
	case 14:
		if w.link("eth0") != nil {
			for _, r := range w.twice("eth0", p.ifname) {
				w.do(op{kind: opRoute, route: r, mode: appended})
			}
		}
	case 13:
		r := w.via(p.ifname, everything(false), 0)
		r.TOS = 0x10
		w.do(op{kind: opRoute, route: r, mode: appended})
	case 12: // a router advertised itself
		r := w.via(p.ifname, everything(true), 0)
		// With a metric of its own, since here it comes by netlink and would join others.
		r.Gateway, r.Protocol, r.Metric = netip.MustParseAddr("fe80::5"), unix.RTPROT_RA, 1020
		w.do(op{kind: opRoute, route: r, mode: appended})
	case 11:
		for _, r := range w.twice(p.ifname, p.ifname) {
			w.do(op{kind: opRoute, route: r, mode: appended})
		}
	}
	if moves {
		w.sbr(p) // last in its chain
	}
	if !w.rarely(4) {
		return
	}
	key := oneOf(&w.choices, "ipv4/conf/IFNAME/rp_filter", "ipv4/conf/IFNAME/arp_ignore", "ipv6/conf/IFNAME/accept_ra", "ipv6/conf/IFNAME/autoconf", "ipv4/conf/IFNAME/arp_announce")
	value := oneOf(&w.choices, "1", "0", "2")
	w.do(op{kind: opSysctl, key: strings.Replace(key, "IFNAME", p.ifname, 1), value: value})
	if w.rarely(2) {
		p.plugins = append(p.plugins, fmt.Sprintf(`{"type":"tuning","sysctl":{"net.%s":%q}}`, strings.ReplaceAll(key, "/", "."), value))
	}
}

// sbr does what the plugin of that name does: a NIC's routes go from main to
// a table, with a default, and a rule for each address.
func (w *world) sbr(p *part) {
	table := 100 + len(w.parts)
	p.plugins = append(p.plugins, `{"type":"sbr"}`)
	moved := w.main(func(r *Route) bool { return unicast(r) && r.Dev == p.ifname && isGlobal(r.Dst.Addr()) })
	if w.rarely(2) {
		moved = append(moved, w.defaults(p.ifname)...)
	}
	for _, r := range moved {
		w.do(op{kind: opRoute, route: r.in(table), mode: appended})
	}
	for _, r := range moved {
		w.do(op{kind: opUnroute, route: r})
	}
	for _, a := range w.Addresses {
		if a.Dev == p.ifname {
			w.do(op{kind: opRule, rule: Rule{Priority: 32765, IPv6: a.Prefix.Addr().Is6(), From: host(a.Prefix.Addr()), Table: table}})
		}
	}
}

// makeSelection chooses which network is asked to carry the default route.
func (w *world) makeSelection() {
	which := w.n(2 * len(w.parts))
	if which < 1 || which >= len(w.parts) {
		return
	}
	p, asked := w.parts[which], []netip.Addr{}
	router := func(ipv6 bool, nth int) netip.Addr {
		if w.link(p.ifname) == nil {
			return everything(ipv6).Addr().Next()
		}
		return w.via(p.ifname, everything(ipv6), nth).Gateway
	}
	switch w.n(8) {
	case 1:
		asked = append(asked, router(false, 0))
	case 2:
		asked = append(asked, router(true, 0))
	case 3, 4:
		asked = append(asked, router(false, 0), router(true, 0))
	case 5:
		asked = append(asked, router(true, 1), router(false, 1), router(true, 0), router(false, 0))
	case 6:
		asked = append(asked, netip.MustParseAddr("192.0.2.1"))
	case 7:
		for _, a := range w.Addresses {
			if a.Dev == p.ifname {
				asked = append(asked, a.Prefix.Addr())
			}
		}
	}
	p.asked = &asked
}

// makeConfig chooses the node's settings and multiplexer's configuration.
func (w *world) makeConfig() {
	lists := []string{"", "10.244.0.0/16 10.96.0.0/12 fd00:244::/48 fd00:96::/112", "10.244.0.0/16", "10.96.0.0/12 fd00:96::/112", "10.244.1.0/24 10.50.0.0/16", "2001:db8::/32 192.0.2.0/24"}
	w.ranges = prefixes(oneOf(&w.choices, lists...))
	w.strict = w.rarely(6)
	for _, name := range []string{"rp_filter", "arp_ignore", "arp_announce"} {
		w.do(op{kind: opSysctl, key: "ipv4/conf/all/" + name, value: oneOf(&w.choices, "0", "0", "0", "1", "2")})
	}
	w.noIPv6 = w.rarely(20)
}
