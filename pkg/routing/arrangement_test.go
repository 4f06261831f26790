package routing

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// arrangement makes random pods: a cluster network of some shape, and what
// random plugins made of random networks.
type arrangement struct {
	*rand.Rand
	in Input
}

func arrange(seed uint64) Input {
	a := &arrangement{Rand: rand.New(rand.NewPCG(seed, 7))}
	a.in.Before = &State{}
	a.cluster()
	a.in.After = &State{
		Links:     append([]Link{}, a.in.Before.Links...),
		Addresses: append([]Address{}, a.in.Before.Addresses...),
		Routes:    append([]Route{}, a.in.Before.Routes...),
	}
	count := a.IntN(5)
	for i := 1; i <= count; i++ {
		a.secondary(i)
	}
	if count > 0 && a.chance(50) {
		a.ask(1 + a.IntN(count))
	}
	for _, r := range []string{"10.244.0.0/16", "10.96.0.0/12", "fd00:244::/48", "fd00:96::/112", "0.0.0.0/0"} {
		if a.chance(50) && r != "0.0.0.0/0" {
			a.in.Ranges = append(a.in.Ranges, netip.MustParsePrefix(r))
		}
	}
	a.in.Sysctls = map[string]string{}
	for _, key := range sysctlKeys(a.in.After) {
		a.in.Sysctls[key] = []string{"0", "0", "1"}[a.IntN(3)]
	}
	return a.in
}

func (a *arrangement) chance(percent int) bool { return a.IntN(100) < percent }

func route(table int, dst, gateway, dev string) Route {
	r := Route{Table: table, Dst: netip.MustParsePrefix(dst).Masked(), Dev: dev}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	r.Metric = plainMetric(r.Dst)
	if gateway == "" && !isIPv6(r.Dst) {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// cluster is eth0, as one of the known cluster networks leaves it.
func (a *arrangement) cluster() {
	s := a.in.Before
	s.Links = []Link{{"eth0", true}}
	give := func(prefix string, routes ...Route) {
		p := netip.MustParsePrefix(prefix)
		s.Addresses = append(s.Addresses, Address{"eth0", p})
		if !p.IsSingleIP() {
			s.Routes = append(s.Routes, route(unix.RT_TABLE_MAIN, prefix, "", "eth0"))
		}
		s.Routes = append(s.Routes, routes...)
	}
	main := func(dst, gateway string) Route { return route(unix.RT_TABLE_MAIN, dst, gateway, "eth0") }
	switch shape := a.IntN(6); shape {
	case 0, 1: // a bridge
		give("10.244.7.3/24", main("0.0.0.0/0", "10.244.7.1"), main("10.244.0.0/16", "10.244.7.1"))
		if shape == 1 {
			give("fd00:244::3/64", main("::/0", "fd00:244::1"))
		}
	case 2: // Calico's
		give("10.244.7.3/32", main("169.254.1.1/32", ""), main("0.0.0.0/0", "169.254.1.1"))
	case 3: // Cilium's
		give("10.244.7.3/32", main("10.244.7.250/32", ""), main("0.0.0.0/0", "10.244.7.250"))
		give("fd00:244::3/128", main("fd00:244::fa/128", ""), main("::/0", "fd00:244::fa"))
	case 4: // IPv6 only
		give("fd00:244::3/64", main("::/0", "fd00:244::1"))
	case 5: // no default route, or halves
		give("10.244.7.3/24")
		if a.chance(50) {
			s.Routes = append(s.Routes, main("0.0.0.0/1", "10.244.7.1"), main("128.0.0.0/1", "10.244.7.1"))
		}
	}
	a.in.Networks = []Network{{
		Attachment: &network.Attachment{IfName: "eth0", Cluster: true},
		Result:     &current.Result{Interfaces: []*current.Interface{{Name: "eth0", Sandbox: "x"}}},
	}}
}

// secondary is net1, net2, ... with what its plugins set.
func (a *arrangement) secondary(i int) {
	name := fmt.Sprintf("net%d", i)
	n := Network{Attachment: &network.Attachment{Reference: name, IfName: name}, Result: &current.Result{}}
	if a.chance(80) {
		n.Result.Interfaces = []*current.Interface{{Name: name, Sandbox: "x"}}
	}
	a.in.Networks = append(a.in.Networks, n)
	if a.chance(15) {
		return // no kernel device
	}
	a.in.After.Links = append(a.in.After.Links, Link{name, a.chance(95)})
	if !a.in.After.link(name).Up {
		return
	}
	subnets := []string{fmt.Sprintf("10.%d.0", 50+i), "10.50.0", "10.97.0", "10.244.9"}
	table := unix.RT_TABLE_MAIN
	if a.chance(20) {
		table = 100 + i // sbr
	}
	if a.chance(80) {
		subnet := subnets[a.IntN(len(subnets))]
		a.address(n, name, table, fmt.Sprintf("%s.%d/24", subnet, 10+i), subnet+".1", []string{"0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.99.0.0/16"})
	}
	if a.chance(60) {
		a.address(n, name, table, fmt.Sprintf("fd50:%d::%d/64", i, i), fmt.Sprintf("fd50:%d::ff", i), []string{"::/0", "::/1", "8000::/1", "fd99::/48"})
	}
}

// address gives a NIC one address, its subnet, and some of the routes: a
// default route, one in halves, and one to elsewhere.
func (a *arrangement) address(n Network, name string, table int, prefix, gateway string, dsts []string) {
	s := a.in.After
	p := netip.MustParsePrefix(prefix)
	s.Addresses = append(s.Addresses, Address{name, p})
	s.Routes = append(s.Routes, route(table, prefix, "", name))
	ip := &current.IPConfig{Address: *netOf(p)}
	if a.chance(60) {
		ip.Gateway = ipOf(netip.MustParseAddr(gateway))
	}
	if len(n.Result.Interfaces) > 0 && a.chance(80) {
		ip.Interface = current.Int(0)
		n.Result.IPs = append(n.Result.IPs, ip)
	}
	var chosen []string
	switch a.IntN(4) {
	case 0:
		chosen = dsts[:1]
	case 1:
		chosen = dsts[1:3]
	case 2:
		chosen = append(chosen, dsts[0], dsts[3])
	}
	for _, dst := range chosen {
		gw := gateway
		if a.chance(20) {
			gw = ""
		}
		r := route(table, dst, gw, name)
		s.Routes = append(s.Routes, r)
		if a.chance(70) {
			n.Result.Routes = append(n.Result.Routes, &types.Route{Dst: *netOf(r.Dst), GW: ipOf(r.Gateway)})
		}
	}
}

// ask gives a network default-route, with gateways that may be bad.
func (a *arrangement) ask(i int) {
	asked := []netip.Addr{}
	for _, addr := range a.in.After.Addresses {
		if addr.Dev != fmt.Sprintf("net%d", i) || a.chance(40) {
			continue
		}
		first := addr.Prefix.Masked().Addr().Next()
		asked = append(asked, first)
		if a.chance(30) {
			asked = append(asked, first.Next())
		}
	}
	if a.chance(5) {
		asked = append(asked, netip.MustParseAddr("192.0.2.1"))
	}
	a.in.Networks[i].DefaultRoute = &asked
}
