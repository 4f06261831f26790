package routing

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// kernel is a model of what a kernel does with links, addresses, routes and
// rules, as far as these tests need it. Those in real namespaces compare it
// with the kernel itself.
type kernel struct {
	State
	sysctls map[string]string
}

func newKernel() *kernel {
	k := &kernel{sysctls: map[string]string{}}
	for _, ipv6 := range families() {
		k.addRule(Rule{Priority: 0, IPv6: ipv6, Table: unix.RT_TABLE_LOCAL})
		k.addRule(Rule{Priority: 32766, IPv6: ipv6, Table: unix.RT_TABLE_MAIN})
	}
	k.addRule(Rule{Priority: 32767, Table: unix.RT_TABLE_DEFAULT})
	k.addSysctls("all")
	return k
}

func (k *kernel) clone() *kernel {
	return &kernel{*k.snapshot(), maps.Clone(k.sysctls)}
}

func (k *kernel) snapshot() *State {
	return &State{slices.Clone(k.Links), slices.Clone(k.Addresses), slices.Clone(k.Routes), slices.Clone(k.Rules)}
}

// addSysctls gives a link its settings, as Begin lets links come up.
func (k *kernel) addSysctls(link string) {
	for _, key := range sysctlKeys(&State{Links: []Link{{Name: link}}}) {
		if _, ok := k.sysctls[key]; !ok {
			k.sysctls[key] = "0"
		}
	}
}

func (k *kernel) addLink(name string) bool {
	k.Links = append(k.Links, Link{name, true})
	k.addSysctls(name)
	return k.connect(name, netip.MustParsePrefix("fe80::1/64"))
}

// connect adds the route that the kernel gives to an address.
func (k *kernel) connect(dev string, p netip.Prefix) bool {
	r := Route{Table: unix.RT_TABLE_MAIN, Dst: p.Masked(), Dev: dev, Metric: 256, Protocol: unix.RTPROT_KERNEL}
	if p.Addr().Is4() {
		r.Metric, r.Scope, r.Source = 0, unix.RT_SCOPE_LINK, p.Addr()
		if p.IsSingleIP() {
			return true
		}
	}
	k.addRoute(&r, appended)
	return true
}

func (k *kernel) addAddress(dev string, p netip.Prefix) bool {
	if k.link(dev) == nil || slices.ContainsFunc(k.Addresses, func(a Address) bool {
		return a.Dev == dev && a.Prefix.Addr() == p.Addr() && (p.Addr().Is6() || a.Prefix == p)
	}) {
		return false
	}
	k.Addresses = append(k.Addresses, Address{dev, p})
	return k.connect(dev, p)
}

// setDown takes a link's routes and its IPv6 addresses away. A next hop of
// IPv6 stays while others of its route are up.
func (k *kernel) setDown(dev string) bool {
	if k.link(dev) == nil || slices.ContainsFunc(k.Routes, func(r Route) bool { return r.Dev == "" && r.by(dev) }) {
		return false
	}
	k.link(dev).Up = false
	was := slices.Clone(k.Routes)
	k.Routes = slices.DeleteFunc(k.Routes, func(r Route) bool {
		return r.Dev == dev && !slices.ContainsFunc(was, func(o Route) bool {
			return isIPv6(r.Dst) && r.Gateway.IsValid() && o.Gateway.IsValid() && k.up(o.Dev) && o.Table == r.Table && o.Dst == r.Dst && o.Metric == r.Metric
		})
	})
	k.Addresses = slices.DeleteFunc(k.Addresses, func(a Address) bool { return a.Dev == dev && a.Prefix.Addr().Is6() })
	return true
}

func (k *kernel) up(dev string) bool {
	l := k.link(dev)
	return l != nil && l.Up
}

// mode is a way to add a route.
type mode int

const (
	prepended mode = iota // as the reference plugins do
	appended
	replaced
)

// addRoute adds a route as the kernel does: of IPv4 among those of the same
// destination and metric in the order of the mode, of IPv6 at the end, except
// that routes with a gateway are kept together, as next hops of one.
func (k *kernel) addRoute(r *Route, m mode) bool {
	alike := func(o Route) bool {
		return o.Table == r.Table && o.Dst == r.Dst && o.TOS == r.TOS && o.Metric == r.Metric &&
			(!isIPv6(r.Dst) || o.Gateway.IsValid() == r.Gateway.IsValid())
	}
	if !k.takes(r) || slices.ContainsFunc(k.Routes, func(o Route) bool { return o.key() == r.key() }) {
		return false
	}
	first := slices.IndexFunc(k.Routes, alike)
	switch {
	case first < 0:
		k.Routes = append(k.Routes, *r)
	case m == replaced && isIPv6(r.Dst):
		k.Routes[first] = *r
		k.Routes = slices.Concat(k.Routes[:first+1], slices.DeleteFunc(slices.Clone(k.Routes[first+1:]), alike))
	case m == replaced:
		k.Routes[first] = *r
	case m == prepended && !isIPv6(r.Dst):
		k.Routes = slices.Insert(k.Routes, first, *r)
	default:
		at := first
		for at < len(k.Routes) && alike(k.Routes[at]) {
			at++
		}
		k.Routes = slices.Insert(k.Routes, at, *r)
	}
	return true
}

// takes reports whether the kernel accepts a route's gateways, and would show
// the route: of IPv6 it leaves out of a dump what stands between next hops.
func (k *kernel) takes(r *Route) bool {
	if slices.ContainsFunc(r.devices(), func(dev string) bool { return dev != "" && !k.up(dev) }) {
		return false
	}
	if len(r.Hops) > 0 {
		return !slices.ContainsFunc(r.Hops, func(h Hop) bool { return !k.reaches(r, h.Gateway, h.Dev) })
	}
	hides := false
	if group := (func(o Route) bool { return o.Table == r.Table && o.Dst == r.Dst && o.Metric == r.Metric }); isIPv6(r.Dst) && r.Gateway.IsValid() {
		first := slices.IndexFunc(k.Routes, func(o Route) bool { return group(o) && o.Gateway.IsValid() })
		hides = first >= 0 && slices.ContainsFunc(k.Routes[first:], func(o Route) bool { return group(o) && !o.Gateway.IsValid() })
	}
	return !hides && k.reaches(r, r.Gateway, r.Dev)
}

// reaches reports whether a gateway is one of a route by the device.
func (k *kernel) reaches(r *Route, gateway netip.Addr, dev string) bool {
	if !gateway.IsValid() || gateway.Is6() && gateway.IsLinkLocalUnicast() {
		return true
	}
	local := slices.ContainsFunc(k.Addresses, func(a Address) bool { return a.Prefix.Addr() == gateway })
	if gateway.IsUnspecified() || local {
		return false
	}
	if r.Onlink {
		found := lookupIn(k.Routes, unix.RT_TABLE_MAIN, flow{dst: gateway})
		best := slices.Contains(found, dev) || len(found) == 0
		return best || gateway.Is4() || slices.Equal(found, lookupIn(k.wide(), unix.RT_TABLE_MAIN, flow{dst: gateway}))
	}
	return slices.ContainsFunc(k.Routes, func(o Route) bool {
		return (o.Table == r.Table || o.Table == unix.RT_TABLE_MAIN) && o.Dev == dev && unicast(&o) && !o.Gateway.IsValid() && o.Dst.Contains(gateway)
	})
}

// wide are the routes of IPv6 that begin at ::.
func (k *kernel) wide() []Route {
	return slices.DeleteFunc(slices.Clone(k.Routes), func(r Route) bool { return r.Dst.Addr() != netip.IPv6Unspecified() })
}

// delRoute removes the first route that is like what the request names. What
// it does not name is not compared. Of IPv6 without a gateway, all next hops
// go.
func (k *kernel) delRoute(r *Route) bool {
	at := -1
	for i, o := range k.Routes {
		if o.Table == r.Table && o.Dst == r.Dst && o.TOS == r.TOS && (r.Metric == 0 || o.Metric == r.Metric) &&
			(r.Type == 0 || o.Type == r.Type) && (isIPv6(r.Dst) || o.Scope == r.Scope) &&
			named(r, &o) && (at < 0 || o.Metric < k.Routes[at].Metric) {
			at = i
		}
	}
	if at < 0 {
		return false
	}
	gone := k.Routes[at]
	if !isIPv6(r.Dst) || r.Gateway.IsValid() || !gone.Gateway.IsValid() {
		k.Routes = slices.Delete(k.Routes, at, at+1)
		return true
	}
	k.Routes = slices.DeleteFunc(k.Routes, func(o Route) bool {
		return o.Table == gone.Table && o.Dst == gone.Dst && o.Metric == gone.Metric && o.Gateway.IsValid()
	})
	return true
}

// named reports whether a route's way is what a request to remove one names:
// of several next hops the kernel compares as many as either has.
func named(r, o *Route) bool {
	hops := o.Hops
	if len(hops) == 0 {
		hops = []Hop{{o.Gateway, o.Dev, 0}}
	}
	if len(r.Hops) == 0 {
		return (r.Dev == "" || hops[0].Dev == r.Dev) && (!r.Gateway.IsValid() || hops[0].Gateway == r.Gateway)
	}
	return len(hops) <= len(r.Hops) && slices.Equal(hops, r.Hops[:len(hops)])
}

func (k *kernel) addRule(r Rule) bool {
	if slices.Contains(k.Rules, r) {
		return false
	}
	k.Rules = append(k.Rules, r)
	slices.SortStableFunc(k.Rules, func(a, b Rule) int { return a.Priority - b.Priority })
	return true
}

func (k *kernel) delRule(r Rule) bool {
	at := slices.Index(k.Rules, r)
	if at >= 0 {
		k.Rules = slices.Delete(k.Rules, at, at+1)
	}
	return at >= 0
}

// flow is a packet on its way out. A socket that binds nothing has neither
// src nor oif.
type flow struct {
	src, dst netip.Addr
	oif      string
}

const nowhere = "nowhere"

// lookup returns the NICs that the packet may leave by, and `nowhere` if it
// may be unreachable.
func (k *kernel) lookup(f flow) []string {
	routes := k.Routes
	if slices.ContainsFunc(k.Links, func(l Link) bool { return !l.Up }) {
		routes = slices.DeleteFunc(slices.Clone(k.Routes), func(r Route) bool { return r.Dev != "" && !k.up(r.Dev) })
	}
	for _, r := range k.Rules {
		if !applies(&r, f) {
			continue
		}
		out := lookupIn(routes, r.Table, f)
		if len(out) == 0 || r.Suppress > 0 && longest(routes, r.Table, f) <= r.Suppress {
			continue
		}
		if out[0] == nowhere {
			break
		}
		return out
	}
	if f.oif != "" && f.dst.Is4() {
		return []string{f.oif} // the kernel takes it for on-link
	}
	return []string{nowhere}
}

// applies reports whether a rule is about a packet.
func applies(r *Rule, f flow) bool {
	from := !r.From.IsValid() || f.src.IsValid() && r.From.Contains(f.src)
	to := !r.To.IsValid() || r.To.Contains(f.dst)
	return r.IPv6 == f.dst.Is6() && from && to && (r.OIF == "" || r.OIF == f.oif)
}

// longest is the prefix length of the routes that a lookup finds.
func longest(routes []Route, table int, f flow) int {
	bits := -1
	for _, r := range routes {
		if r.Table == table && r.TOS == 0 && isIPv6(r.Dst) == f.dst.Is6() && r.Dst.Contains(f.dst) && len(ways(&r, f)) > 0 {
			bits = max(bits, r.Dst.Bits())
		}
	}
	return bits
}

// lookupIn is a lookup in one table: the longest prefix, of these the lowest
// metric; then of IPv4 the first, of IPv6 any. A device that the socket is
// bound to leaves other devices out, and of IPv6 what is unreachable.
func lookupIn(routes []Route, table int, f flow) []string {
	var fit []Route
	for _, r := range routes {
		if r.Table == table && r.TOS == 0 && isIPv6(r.Dst) == f.dst.Is6() && r.Dst.Contains(f.dst) && len(ways(&r, f)) > 0 {
			fit = append(fit, r)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	better := func(a, b Route) int { return cmp.Or(b.Dst.Bits()-a.Dst.Bits(), a.Metric-b.Metric) }
	slices.SortStableFunc(fit, better)
	var out []string
	for i := range fit {
		if i == 0 || f.dst.Is6() && better(fit[0], fit[i]) == 0 {
			out = append(out, ways(&fit[i], f)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ways are the devices of a route that a packet may take.
func ways(r *Route, f flow) []string {
	if !unicast(r) {
		if f.oif != "" && f.dst.Is6() {
			return nil
		}
		return []string{nowhere}
	}
	var out []string
	for _, dev := range r.devices() {
		if f.oif == "" || dev == f.oif {
			out = append(out, dev)
		}
	}
	return out
}
