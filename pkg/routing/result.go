package routing

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// Left returns attachment i's result with the routes as the rules left them
// in main: without defaults that were taken away, with those that its
// selection asked for. A delegate's CHECK compares the kernel with it.
func (p *Plan) Left(i int, in *current.Result) *current.Result {
	out := *in
	out.Routes = slices.Clone(in.Routes)
	for _, ipv6 := range families() {
		drop, carrier := p.dropped(i, in, ipv6), p.carrier(ipv6)
		out.Routes = slices.DeleteFunc(out.Routes, func(r *types.Route) bool {
			return inMain(r) && slices.Contains(drop, routeOf(r).Dst)
		})
		if carrier.Asked && carrier.Attachment == i {
			for _, r := range carrier.Routes {
				out.Routes = append(out.Routes, r.result())
			}
		}
	}
	return &out
}

// ForCheck is Left without routes of other tables: the reference plugins look
// for every route in main. It is `in` itself when nothing differs.
func (p *Plan) ForCheck(i int, in *current.Result) *current.Result {
	out := p.Left(i, in)
	out.Routes = slices.DeleteFunc(out.Routes, func(r *types.Route) bool { return !inMain(r) })
	if slices.Equal(out.Routes, in.Routes) {
		return in
	}
	return out
}

// Shown is Left for the merged result: where a selection moved a family's
// default route, only who carries it has a gateway (NPWG 4.1.2.1.9). `in` is
// as Part.Indexed returns it.
func (p *Plan) Shown(i int, in *current.Result) *current.Result {
	out := p.Left(i, in)
	if slices.Equal(out.Routes, in.Routes) && !p.Carriers[0].Asked && !p.Carriers[1].Asked {
		return in
	}
	out.IPs = nil
	for _, ip := range in.IPs {
		ip = ip.Copy()
		if carrier := p.carrier(ip.Address.IP.To4() == nil); carrier.Asked {
			ip.Gateway = nil
			if carrier.Attachment == i {
				ip.Gateway = ipOf(carrier.Routes[0].Gateway)
			}
		}
		out.IPs = append(out.IPs, ip)
	}
	return out
}

// dropped are the destinations of a result's routes that main has no more.
func (p *Plan) dropped(i int, in *current.Result, ipv6 bool) []netip.Prefix {
	carrier := p.carrier(ipv6)
	var out []netip.Prefix
	if carrier.Asked || carrier.Attachment != i {
		for _, r := range defaultLike(routesIn(in.Routes), ipv6) {
			out = append(out, r.Dst)
		}
	}
	for _, r := range p.Removed {
		stays := slices.ContainsFunc(carrier.Routes, func(o Route) bool { return o.Dst == r.Dst }) && carrier.Attachment == i && !carrier.Asked
		if nic := p.nic(r.Dev); nic != nil && nic.Attachment == i && isIPv6(r.Dst) == ipv6 && !stays {
			out = append(out, r.Dst)
		}
	}
	return out
}

func inMain(r *types.Route) bool { return r.Table == nil || *r.Table == unix.RT_TABLE_MAIN }

// routesIn are a result's routes for main, by destination.
func routesIn(list []*types.Route) []Route {
	var out []Route
	for _, r := range list {
		if inMain(r) {
			out = append(out, routeOf(r))
		}
	}
	return out
}

func routeOf(r *types.Route) Route {
	return Route{Table: unix.RT_TABLE_MAIN, Dst: prefixOf(&r.Dst).Masked()}
}

// result shows a default route as CNI does. The metric is named where it
// tells several gateways apart.
func (r *Route) result() *types.Route {
	out := &types.Route{Dst: *netOf(r.Dst), GW: ipOf(r.Gateway)}
	if r.Metric != plainMetric(r.Dst) {
		out.Priority = r.Metric
	}
	return out
}
