package routing

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// makeCluster chooses what the cluster network is like.
func (w *world) makeCluster() {
	p := &part{ifname: "eth0"}
	w.parts = append(w.parts, p)
	const four, six, four32, six128 = "10.244.1.7/24", "fd00:244:0:1::7/64", "10.244.1.7/32", "fd00:244:0:1::7/128"
	switch w.n(12) {
	case 0:
		w.nic("eth0", four, six)
		w.gives(p, w.defaults("eth0"))
	case 1:
		w.nic("eth0", four)
		w.gives(p, w.defaults("eth0")[:1])
	case 2:
		w.nic("eth0", six)
		w.gives(p, w.defaults("eth0")[1:])
	case 3: // Calico
		w.nic("eth0", four32, six128)
		w.behind(p, "169.254.1.1")
		w.gives(p, []Route{w.via("eth0", everything(true), 0)})
	case 4: // Cilium
		w.nic("eth0", four32, six128)
		w.behind(p, "10.244.1.1", "fd00:244:0:1::1")
	case 5:
		w.nic("eth0", four, six)
	case 6: // two interfaces, the second with the default
		w.nic("eth0", four, six)
		w.nic("eth1", "10.245.1.7/24", "fd00:245::7/64")
		w.gives(p, w.defaults("eth1"))
	case 7:
		w.nic("eth0", four, six)
		w.gives(p, w.viaAll("eth0", "0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"))
	case 8:
		w.nic("eth0", four, six)
		w.gives(p, w.twice("eth0", "eth0"))
	case 9: // one half, and no default
		w.nic("eth0", four, six)
		w.gives(p, w.viaAll("eth0", "0.0.0.0/1", "8000::/1"))
	case 10:
		w.nic("eth0", four, six)
		spare := w.defaults("eth0")
		for i := range spare {
			spare[i].Metric += 100
		}
		w.gives(p, append(w.defaults("eth0"), spare...))
	default: // no kernel device
		return
	}
	w.makeClusterRanges(p)
	w.makeClusterResult(p)
}

// makeClusterRanges chooses what the cluster network has routes to.
func (w *world) makeClusterRanges(p *part) {
	lists := [][]string{nil, {"10.244.0.0/16", "fd00:244::/48"}, {"10.96.0.0/12", "fd00:96::/112"},
		{"10.244.0.0/16", "fd00:244::/48", "10.96.0.0/12", "fd00:96::/112"}}
	for _, r := range w.viaAll("eth0", lists[w.n(len(lists))]...) {
		if slices.ContainsFunc(w.Addresses, func(a Address) bool { return a.Prefix.Addr().Is6() == isIPv6(r.Dst) }) {
			w.gives(p, []Route{r})
		}
	}
}

// makeClusterResult chooses what of it the cluster network returns.
func (w *world) makeClusterResult(p *part) {
	routes := p.result.Routes
	p.result.Routes = nil
	devs := []string{"eth0"}
	if w.link("eth1") != nil {
		devs = oneOf(&w.choices, []string{"eth1", "eth0"}, []string{"eth0"})
	}
	switch w.n(3) {
	case 0:
		p.claims(w, true, devs...)
		p.result.Routes = routes
	case 1:
		p.claims(w, false, devs...)
	}
}

// gives adds routes, and puts them into the result.
func (w *world) gives(p *part, routes []Route) {
	for _, r := range routes {
		if w.do(op{kind: opRoute, route: r, mode: appended}) {
			p.returns(&r)
		}
	}
}

func (w *world) defaults(dev string) []Route {
	return []Route{w.via(dev, everything(false), 0), w.via(dev, everything(true), 0)}
}

func (w *world) viaAll(dev string, dsts ...string) []Route {
	var out []Route
	for _, dst := range dsts {
		out = append(out, w.via(dev, netip.MustParsePrefix(dst), 0))
	}
	return out
}

// behind are default routes by gateways that routes of their own lead to.
func (w *world) behind(p *part, gateways ...string) {
	for _, gateway := range gateways {
		a := netip.MustParseAddr(gateway)
		whole := direct("eth0", everything(a.Is6()))
		whole.Gateway, whole.Scope = a, 0
		w.gives(p, []Route{direct("eth0", host(a)), whole})
		r := w.routersOf("eth0")
		if r.single = true; a.Is6() {
			r.six = a
		} else {
			r.four, r.onlink = a, false
		}
	}
}

// twice are default routes by two gateways: of IPv4 one route.
func (w *world) twice(a, b string) []Route {
	one, two := w.via(a, everything(false), 0), w.via(b, everything(false), 1)
	hops := Route{Table: unix.RT_TABLE_MAIN, Dst: one.Dst, Onlink: one.Onlink || two.Onlink, Protocol: unix.RTPROT_STATIC,
		Hops: []Hop{{one.Gateway, a, 0}, {two.Gateway, b, 0}}}
	return []Route{hops, w.via(a, everything(true), 0), w.via(b, everything(true), 1)}
}
