package routing

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// world is a pod with its networks: what their plugins do in the kernel and
// what they return, what the pod asks for, what is configured.
type world struct {
	choices
	*kernel           // as far as it is made
	before  *State    // with the cluster network alone
	scripts [2][]op   // the cluster network's plugins, and the others'
	parts   []*part   // the cluster network first
	routers []routers // what NICs' networks have
	ranges  []netip.Prefix
	strict  bool
	noIPv6  bool // the kernel has no IPv6 settings
}

// part is one network.
type part struct {
	ifname  string
	result  current.Result
	plugins []string
	asked   *[]netip.Addr
	claimed []string // interfaces, as the result orders them
}

// routers are those of one NIC's networks.
type routers struct {
	dev    string
	onlink bool // the NIC has no subnet of IPv4
	single bool // nothing else is on-link
	four   netip.Addr
	six    netip.Addr
}

// newWorld makes the world that the bytes stand for.
func newWorld(data []byte) *world {
	w := &world{choices: choices{data}, kernel: newKernel()}
	w.makeCluster()
	w.before = w.snapshot()
	for i := 1; i <= 5 && w.n(4) > 0; i++ {
		w.makeSecondary(i)
	}
	w.makeSelection()
	w.makeConfig()
	return w
}

// do carries an op out and notes it, unless the kernel refuses it.
func (w *world) do(o op) bool {
	if !w.kernel.do(o) {
		return false
	}
	which := 0
	if w.before != nil {
		which = 1
	}
	w.scripts[which] = append(w.scripts[which], o)
	return true
}

// input is what Decide gets.
func (w *world) input() Input {
	in := Input{Before: w.before, After: w.snapshot(), Ranges: w.ranges, Strict: w.strict, Sysctls: map[string]string{}}
	for _, p := range w.parts {
		in.Networks = append(in.Networks, p.network(len(in.Networks)))
	}
	for _, key := range sysctlKeys(in.After) {
		if !w.noIPv6 || !strings.HasPrefix(key, "ipv6") {
			in.Sysctls[key] = w.sysctls[key]
		}
	}
	return in
}

func (p *part) network(i int) Network {
	a := &network.Attachment{IfName: p.ifname, Cluster: i == 0, DefaultRoute: p.asked, Reference: fmt.Sprintf("shop/n%d", i)}
	a.Name = "cluster"
	for _, plugin := range p.plugins {
		a.Plugins = append(a.Plugins, json.RawMessage(plugin))
	}
	return Network{a, copyOf(&p.result)}
}

func copyOf(in *current.Result) *current.Result {
	out := &current.Result{}
	for _, i := range in.Interfaces {
		out.Interfaces = append(out.Interfaces, i.Copy())
	}
	for _, ip := range in.IPs {
		out.IPs = append(out.IPs, ip.Copy())
	}
	for _, r := range in.Routes {
		out.Routes = append(out.Routes, r.Copy())
	}
	return out
}

// nic adds a link, with its addresses, and notes its routers.
func (w *world) nic(dev string, addresses ...string) {
	w.do(op{kind: opLink, dev: dev})
	r := routers{dev: dev, onlink: true, four: netip.MustParseAddr("169.254.77.1"), six: netip.MustParseAddr("fe80::1")}
	for _, a := range addresses {
		p := netip.MustParsePrefix(a)
		w.do(op{kind: opAddress, dev: dev, prefix: p})
		switch {
		case p.IsSingleIP():
		case p.Addr().Is6():
			r.six = p.Masked().Addr().Next()
		case r.onlink:
			r.four, r.onlink = p.Masked().Addr().Next(), false
		}
	}
	w.routers = append(w.routers, r)
}

func (w *world) routersOf(dev string) *routers {
	i := slices.IndexFunc(w.routers, func(r routers) bool { return r.dev == dev })
	return &w.routers[i]
}

// via is a route of main by a router of the NIC: its `nth`, from 0.
func (w *world) via(dev string, dst netip.Prefix, nth int) Route {
	r, out := w.routersOf(dev), Route{Table: unix.RT_TABLE_MAIN, Dst: dst, Dev: dev, Metric: plainMetric(dst), Protocol: unix.RTPROT_STATIC}
	if isIPv6(dst) {
		out.Gateway = r.six
	} else {
		out.Gateway, out.Onlink = r.four, r.onlink
	}
	out.Onlink = out.Onlink || r.single && nth > 0
	raw := out.Gateway.AsSlice()
	raw[len(raw)-1] += byte(8 * nth)
	out.Gateway, _ = netip.AddrFromSlice(raw)
	return out
}

// direct is a route of main without a gateway.
func direct(dev string, dst netip.Prefix) Route {
	out := Route{Table: unix.RT_TABLE_MAIN, Dst: dst, Dev: dev, Metric: plainMetric(dst), Protocol: unix.RTPROT_STATIC}
	if !isIPv6(dst) {
		out.Scope = unix.RT_SCOPE_LINK
	}
	return out
}

// claims puts interfaces and their addresses into the result.
func (p *part) claims(w *world, gateways bool, devs ...string) {
	p.claimed = devs
	p.result.Interfaces = []*current.Interface{{Name: "veth" + p.ifname}}
	for i, dev := range devs {
		p.result.Interfaces = append(p.result.Interfaces, &current.Interface{Name: dev, Sandbox: "/ns"})
		for _, a := range w.Addresses {
			if a.Dev != dev {
				continue
			}
			ip := &current.IPConfig{Interface: current.Int(i + 1), Address: *netOf(a.Prefix)}
			if gateways {
				ip.Gateway = ipOf(w.via(dev, everything(a.Prefix.Addr().Is6()), 0).Gateway)
			}
			p.result.IPs = append(p.result.IPs, ip)
		}
	}
}

// returns puts a route into the result.
func (p *part) returns(r *Route) {
	out := &types.Route{Dst: *netOf(r.Dst), GW: ipOf(r.Gateway)}
	if r.Metric != plainMetric(r.Dst) {
		out.Priority = r.Metric
	}
	if r.Table != unix.RT_TABLE_MAIN {
		out.Table = &r.Table
	}
	p.result.Routes = append(p.result.Routes, out)
}

// String shows the world so that a person can build it.
func (w *world) String() string {
	var b strings.Builder
	for which, script := range w.scripts {
		fmt.Fprintln(&b, [...]string{"# the cluster network:", "# the others:"}[which])
		for _, o := range script {
			fmt.Fprintln(&b, o)
		}
	}
	for i, p := range w.parts {
		result, _ := json.Marshal(p.result)
		fmt.Fprintf(&b, "# %d %s returns %s", i, p.ifname, result)
		if p.asked != nil {
			fmt.Fprintf(&b, " default-route %s", *p.asked)
		}
		fmt.Fprintf(&b, " plugins %s\n", p.plugins)
	}
	fmt.Fprintf(&b, "# clusterCIDRs %s strict %v, no IPv6 settings %v\n", w.ranges, w.strict, w.noIPv6)
	return b.String()
}
