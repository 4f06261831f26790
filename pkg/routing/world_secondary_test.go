package routing

import (
	"fmt"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// makeSecondary chooses what the i-th network that a pod asked for is like.
func (w *world) makeSecondary(i int) {
	p := &part{ifname: fmt.Sprintf("net%d", i)}
	w.parts = append(w.parts, p)
	kind, spare := w.n(10), p.ifname+"b"
	if kind == 9 { // a virtual function in user space
		p.result.Interfaces = []*current.Interface{{Name: p.ifname, Sandbox: "/ns", PciID: "0000:01:00.1"}}
		if w.rarely(2) {
			p.returns(&Route{Table: unix.RT_TABLE_MAIN, Dst: everything(false), Gateway: netip.MustParseAddr("10.70.0.1")})
		}
		return
	}
	w.nic(p.ifname, w.makeAddresses(i)...)
	devs := []string{p.ifname}
	if kind == 8 {
		w.nic(spare, w.makeAddresses(i+10)...)
		devs = oneOf(&w.choices, []string{p.ifname, spare}, []string{spare, p.ifname})
	}
	quiet := w.rarely(6)
	if !quiet {
		p.claims(w, w.n(3) < 2, devs...)
		w.makeGateways(p)
	}
	for range w.n(4) {
		w.makeRoutes(p, oneOf(&w.choices, devs...))
	}
	w.makeMischief(p)
	if quiet {
		p.result = current.Result{}
	}
	if kind == 7 {
		w.do(op{kind: opDown, dev: p.ifname})
	}
}

// makeAddresses chooses a NIC's addresses.
func (w *world) makeAddresses(i int) []string {
	four, six := fmt.Sprintf("10.50.%d.2/24", i), fmt.Sprintf("fd50:0:0:%d::2/64", i)
	switch w.n(12) {
	case 1:
		return []string{four}
	case 2:
		return []string{six}
	case 3:
		return nil
	case 4: // several
		return []string{four, six, fmt.Sprintf("10.60.%d.2/24", i), fmt.Sprintf("10.50.%d.3/24", i), fmt.Sprintf("fd60:0:0:%d::2/64", i)}
	case 5:
		return []string{fmt.Sprintf("10.50.%d.2/32", i), fmt.Sprintf("fd50:0:0:%d::2/128", i)}
	case 6: // on a subnet that other networks may share
		return []string{fmt.Sprintf("10.50.1.%d/24", i+20), fmt.Sprintf("fd50:0:0:1::%d/64", i+20)}
	case 7: // on the cluster's subnet
		return []string{fmt.Sprintf("10.244.1.%d/24", i+20), fmt.Sprintf("fd00:244:0:1::%d/64", i+20)}
	case 8: // the same address as others
		return []string{"10.50.1.2/24", "fd50:0:0:1::2/64"}
	case 9: // one address, two subnets
		return []string{four, fmt.Sprintf("10.50.%d.2/16", i)}
	}
	return []string{four, six}
}

// makeGateways spoils the gateways of a result, now and then.
func (w *world) makeGateways(p *part) {
	spoil := w.n(12)
	for _, ip := range p.result.IPs {
		if ip.Gateway == nil {
			continue
		}
		switch spoil {
		case 9: // its own address
			ip.Gateway = ip.Address.IP
		case 10: // out of reach
			ip.Gateway = ipOf(netip.MustParseAddr("192.0.2.1"))
			if ip.Address.IP.To4() == nil {
				ip.Gateway = ipOf(netip.MustParseAddr("2001:db8::1"))
			}
		case 11:
			ip.Gateway = ipOf(everything(ip.Address.IP.To4() == nil).Addr())
		}
	}
}

// makeRoutes chooses some routes by a NIC, and whether the kernel has them,
// the result, or both.
func (w *world) makeRoutes(p *part, dev string) {
	four := []string{"0.0.0.0/0", "0.0.0.0/1 128.0.0.0/1", "0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2", "128.0.0.0/1", "64.0.0.0/2",
		"10.99.0.0/16", "10.244.9.0/24", "198.51.100.7/32", "10.96.0.0/13"}
	six := []string{"::/0", "::/1 8000::/1", "::/2 4000::/2 8000::/2 c000::/2", "::/1", "4000::/2",
		"fd99::/48", "fd00:244:0:9::/64", "2001:db8:7::7/128", "fd00:96::/116"}
	var dsts []netip.Prefix
	for _, list := range [][]string{four, six}[w.n(2)][w.n(len(four)):][:1] {
		dsts = prefixes(list)
	}
	if w.rarely(10) { // by a NIC of another network
		dev = w.routers[w.n(len(w.routers))].dev
	}
	gateway, metric, table, way := w.n(6), oneOf(&w.choices, 0, 0, 7, 200), oneOf(&w.choices, 0, 0, 0, 77), oneOf(&w.choices, prepended, appended, replaced)
	shown, done := w.n(4), w.n(6)
	for _, dst := range dsts {
		r := w.via(dev, dst, 0)
		switch gateway {
		case 3:
			r = w.via(dev, dst, 1)
		case 4, 5:
			r = direct(dev, dst)
		}
		if metric != 0 {
			r.Metric = metric
		}
		if table != 0 {
			r.Table = table
		}
		if isIPv6(dst) && r.Onlink {
			continue // the kernel refuses a copy once another NIC is on that subnet
		}
		if done < 5 && !w.do(op{kind: opRoute, route: r, mode: safely(way, &r)}) {
			continue
		}
		if shown < 3 {
			p.returns(&r)
		}
	}
}

// safely keeps `replace` to default routes: plugins that take a connected
// route away are not looked at.
func safely(m mode, r *Route) mode {
	if m == replaced && (r.Dst.Bits() > 0 || !r.Gateway.IsValid()) {
		return appended
	}
	return m
}

func prefixes(list string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range fields(list) {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
