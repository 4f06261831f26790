package routing

import (
	"reflect"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// checkResults: no result has a default route that main lacks, and what the
// rules did not touch is as its plugins returned it.
func (c *checker) checkResults() {
	for i, n := range c.in.Networks {
		left, forCheck, shown := c.plan.Left(i, n.Result), c.plan.ForCheck(i, n.Result), c.plan.Shown(i, n.Result)
		if !reflect.DeepEqual(n.Result, copyOf(&c.parts[i].result)) {
			c.problem("results", "the result of %s was changed", n)
		}
		for _, result := range []*current.Result{left, forCheck, shown} {
			c.checkRoutes(i, result)
		}
		if slices.ContainsFunc(forCheck.Routes, func(r *types.Route) bool { return !inMain(r) }) {
			c.problem("results", "%s is asked about another table", n)
		}
		plain := !slices.ContainsFunc(n.Result.Routes, func(r *types.Route) bool { return !inMain(r) })
		if i == 0 && !c.moved() && (plain && forCheck != n.Result || shown != n.Result) {
			c.problem("results", "the cluster network's result became %v", shown)
		}
		c.checkGateways(i, shown)
	}
}

// moved reports whether a family's default routes are others than before.
func (c *checker) moved() bool {
	for _, ipv6 := range families() {
		if c.plan.carrier(ipv6).Asked {
			return true
		}
	}
	return slices.ContainsFunc(c.plan.Removed, func(r Route) bool { return c.clusterNIC(r.Dev) })
}

// checkRoutes: a result's default routes are in main.
func (c *checker) checkRoutes(i int, result *current.Result) {
	var routes []Route
	for _, r := range result.Routes {
		if inMain(r) {
			routes = append(routes, routeOf(r))
		}
	}
	there := c.now.main(unicast)
	for _, ipv6 := range families() {
		for _, r := range wholeOf(routes, ipv6) {
			shown := func(o Route) bool {
				return o.Dst == r.Dst && slices.ContainsFunc(c.nics, func(n NIC) bool { return n.Attachment == i && o.by(n.Name) })
			}
			if carrier := c.plan.carrier(ipv6); carrier.Attachment == i && !carrier.Asked && !slices.ContainsFunc(c.in.After.main(unicast), shown) {
				continue // it was never true
			}
			if !slices.ContainsFunc(there, shown) {
				c.problem("results", "network %d shows %s, which main lacks by its NICs", i, r.Dst)
			}
		}
		if carrier := c.plan.carrier(ipv6); carrier.Asked && carrier.Attachment == i {
			for _, r := range carrier.Routes {
				if !slices.ContainsFunc(routes, func(o Route) bool { return o.Dst == r.Dst }) {
					c.problem("results", "network %d carries %q and does not show it", i, &r)
				}
			}
		}
	}
	if slices.ContainsFunc(routes, func(r Route) bool { return r.Table != unix.RT_TABLE_MAIN }) {
		c.problem("results", "network %d: %v", i, routes)
	}
}

// checkGateways: where a selection moved a family, the one that carries it
// alone shows a gateway (NPWG 4.1.2.1.9).
func (c *checker) checkGateways(i int, shown *current.Result) {
	for n, ip := range shown.IPs {
		carrier := c.plan.carrier(ip.Address.IP.To4() == nil)
		switch {
		case !carrier.Asked && !ip.Gateway.Equal(c.parts[i].result.IPs[n].Gateway),
			carrier.Asked && carrier.Attachment != i && ip.Gateway != nil,
			carrier.Asked && carrier.Attachment == i && !ip.Gateway.Equal(ipOf(carrier.Routes[0].Gateway)):
			c.problem("gateways", "network %d shows %s for %s", i, ip.Gateway, ip.Address.IP)
		}
	}
}
