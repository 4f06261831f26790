package routetest

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CHECK notices what is not as ADD left it, names it, and is content when it
// is back. It is a failure of the pod, never of the configuration.
func TestCheckNotices(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.attach(t, moved(w.red.gateway().all(), "red-default", "blue-default"))
		p.show(t)
		h := handle(t, p.ns)
		for _, c := range []struct {
			name   string
			damage func(t *testing.T) (mend func() error)
			names  []string
		}{
			{"a rule is gone", func(t *testing.T) func() error {
				rule := p.rule(t, func(r netlink.Rule) bool {
					return r.Priority == 30000 && r.Src != nil && r.Src.IP.String() == p.nics["net1"].v4
				})
				must(t, h.RuleDel(&rule))
				return func() error { return h.RuleAdd(&rule) }
			}, []string{"rule", p.nics["net1"].v4, "30001"}},
			{"a range's rule is gone", func(t *testing.T) func() error {
				rule := p.rule(t, func(r netlink.Rule) bool {
					return r.Priority == 30100 && r.Dst != nil && r.Dst.String() == serviceRange().v6
				})
				must(t, h.RuleDel(&rule))
				return func() error { return h.RuleAdd(&rule) }
			}, []string{"rule", serviceRange().v6}},
			{"a route of a table is gone", func(t *testing.T) func() error {
				route := p.route(t, 30001, func(r netlink.Route) bool { return r.Dst.String() == w.red.subnet().v4 })
				must(t, h.RouteDel(&route))
				return func() error { return h.RouteAdd(&route) }
			}, []string{"route", w.red.subnet().v4, "30001"}},
			{"a default of a table is gone", func(t *testing.T) func() error {
				route := p.route(t, 30002, func(r netlink.Route) bool { return len(r.Gw) > 0 })
				must(t, h.RouteDel(&route))
				return func() error { return h.RouteAdd(&route) }
			}, []string{"route", w.blue.gateway().v4, "30002"}},
			{"a sysctl changed", func(t *testing.T) func() error {
				sysctl(t, p.ns, "ipv4/conf/net1/arp_ignore", "0")
				return func() error { sysctl(t, p.ns, "ipv4/conf/net1/arp_ignore", "1"); return nil }
			}, []string{"arp_ignore", "net1"}},
			{"routers are believed again", func(t *testing.T) func() error {
				sysctl(t, p.ns, "ipv6/conf/net2/accept_ra", "1")
				return func() error { sysctl(t, p.ns, "ipv6/conf/net2/accept_ra", "0"); return nil }
			}, []string{"accept_ra", "net2"}},
			{"a foreign default came", func(t *testing.T) func() error {
				return p.addDefault(t, "net2", w.blue.gateway().v4, 7)
			}, []string{"default", "net2", w.blue.gateway().v4}},
			{"a foreign IPv6 default came", func(t *testing.T) func() error {
				return p.addDefault(t, "net2", w.blue.gateway().v6, 2000)
			}, []string{"default", "net2", w.blue.gateway().v6}},
			{"the default went", func(t *testing.T) func() error {
				route := p.route(t, unix.RT_TABLE_MAIN, func(r netlink.Route) bool { return r.Gw.String() == w.red.gateway().v4 })
				must(t, h.RouteDel(&route))
				return func() error { return h.RouteAdd(&route) }
			}, []string{"route", w.red.gateway().v4}},
		} {
			t.Run(c.name, func(t *testing.T) {
				mend := c.damage(t)
				p.checkFails(t, c.names)
				must(t, mend())
				p.ok(t, "CHECK")
			})
		}
	})
}

// checkFails demands a CHECK that names all the words.
func (p *pod) checkFails(t *testing.T, words []string) {
	t.Helper()
	e := p.call(t, "CHECK").Error()
	if e == nil {
		t.Error("CHECK succeeded")
		return
	}
	if e.Code == 7 || e.Code == 11 {
		t.Errorf("code %d: %s", e.Code, e.Msg)
	}
	for _, word := range words {
		if !strings.Contains(e.Msg, word) {
			t.Errorf("CHECK does not name %q: %s", word, e.Msg)
		}
	}
}

// rule returns the one rule that is like this.
func (p *pod) rule(t *testing.T, like func(netlink.Rule) bool) netlink.Rule {
	t.Helper()
	for _, rule := range rules(t, p.ns) {
		if like(rule) {
			return rule
		}
	}
	t.Fatal("the pod has no such rule")
	return netlink.Rule{}
}

// route returns a table's first route that is like this.
func (p *pod) route(t *testing.T, table int, like func(netlink.Route) bool) netlink.Route {
	t.Helper()
	for _, route := range routes(t, p.ns, table) {
		if like(route) {
			return route
		}
	}
	t.Fatalf("table %d has no such route", table)
	return netlink.Route{}
}

// addDefault adds a default route to main, as a careless program would.
func (p *pod) addDefault(t *testing.T, nic, gateway string, metric int) (mend func() error) {
	t.Helper()
	route := &netlink.Route{
		LinkIndex: link(t, p.ns, nic).Attrs().Index, Gw: net.ParseIP(gateway), Priority: metric,
		Dst: prefix(t, wholeFamily(gateway)),
	}
	must(t, handle(t, p.ns).RouteAdd(route))
	return func() error { return handle(t, p.ns).RouteDel(route) }
}
