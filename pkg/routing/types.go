package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The numbers that the rules take in a pod's namespace: fixed, documented, and
// clear of what the plugin sbr takes (tables from 100, priorities from 32765
// down).
const (
	FirstTable     = 30000 // the cluster network's; the next NIC has 30001
	lastTable      = 30999
	subnetPref     = 29999 // R3, for what a NIC is on
	repliesPref    = 30000 // R3
	rangesPref     = 30100 // R4
	backstopMetric = 1<<31 - 1
)

// Route is one route as the rules see it. A route of IPv6 with several next
// hops is as many Routes, since the kernel takes them one by one; of IPv4 it
// is one Route with Hops.
type Route struct {
	Table   int          `json:"table"`
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gw,omitzero"`
	Dev     string       `json:"dev,omitempty"` // "" for a route to nowhere
	Metric  int          `json:"metric,omitempty"`
	TOS     int          `json:"tos,omitempty"`
	Type    int          `json:"type,omitempty"` // unix.RTN_*; 0 is RTN_UNICAST
	Scope   int          `json:"scope,omitempty"`
	Onlink  bool         `json:"onlink,omitempty"`
	Source  netip.Addr   `json:"src,omitzero"`
	MTU     int          `json:"mtu,omitempty"`
	AdvMSS  int          `json:"advmss,omitempty"`
	Hops    []Hop        `json:"hops,omitempty"`

	Protocol int  `json:"proto,omitempty"` // unix.RTPROT_*; not part of what is compared
	Encap    bool `json:"-"`               // it wraps packets: it can be compared, not copied
}

// Hop is one of several next hops.
type Hop struct {
	Gateway netip.Addr `json:"gw,omitzero"`
	Dev     string     `json:"dev"`
	Weight  int        `json:"weight,omitempty"` // as in rtnh_hops: 0 is once
}

// routeKey is what tells one route of a namespace from another.
type routeKey struct {
	table, metric, tos, kind int
	dst                      netip.Prefix
	gateway                  netip.Addr
	dev, hops                string
}

func (r *Route) key() routeKey {
	k := routeKey{r.Table, r.Metric, r.TOS, r.Type, r.Dst, r.Gateway, r.Dev, ""}
	if len(r.Hops) > 0 {
		k.hops = fmt.Sprint(r.Hops)
	}
	return k
}

// by reports whether packets may leave by the NIC on this route.
func (r *Route) by(nic string) bool {
	return r.Dev == nic || slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Dev == nic })
}

// everyDev reports whether a predicate likes every NIC of the route, and
// there is one.
func (r *Route) everyDev(like func(dev string) bool) bool {
	if len(r.Hops) == 0 {
		return r.Dev != "" && like(r.Dev)
	}
	return !slices.ContainsFunc(r.Hops, func(h Hop) bool { return !like(h.Dev) })
}

// devices are the NICs that packets may leave by.
func (r *Route) devices() []string {
	if len(r.Hops) == 0 {
		return []string{r.Dev}
	}
	var out []string
	for _, h := range r.Hops {
		out = append(out, h.Dev)
	}
	return out
}

// only returns the route with the next hops by one NIC, which it has.
func (r *Route) only(nic string) Route {
	out := *r
	out.Hops = nil
	for _, h := range r.Hops {
		if h.Dev == nic {
			out.Hops = append(out.Hops, h)
		}
	}
	if len(out.Hops) == 1 {
		out.Gateway, out.Dev, out.Hops = out.Hops[0].Gateway, nic, nil
	}
	return out
}

// onlyBy is only for several routes.
func onlyBy(routes []Route, nic string) []Route {
	var out []Route
	for i := range routes {
		out = append(out, routes[i].only(nic))
	}
	return out
}

// in returns a copy of the route for another table.
func (r *Route) in(table int) Route {
	out := *r
	out.Table, out.Protocol = table, 0
	return out
}

// String shows the route as `ip route` does.
func (r *Route) String() string {
	var b strings.Builder
	if r.Type == unix.RTN_UNREACHABLE {
		b.WriteString("unreachable ")
	}
	if r.Dst.Bits() == 0 {
		b.WriteString("default")
	} else {
		b.WriteString(r.Dst.String())
	}
	hop := func(gateway netip.Addr, dev string) {
		if gateway.IsValid() {
			b.WriteString(" via " + gateway.String())
		}
		if dev != "" {
			b.WriteString(" dev " + dev)
		}
	}
	hop(r.Gateway, r.Dev)
	for _, h := range r.Hops {
		hop(h.Gateway, h.Dev)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	if r.Metric != 0 && r.Metric != plainMetric(r.Dst) && r.Metric != backstopMetric {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

// Rule is one routing policy rule of the kinds that are used here: from an
// address, to a range, out of a device, or from an address to its subnet.
type Rule struct {
	Priority int          `json:"priority"`
	IPv6     bool         `json:"ipv6,omitempty"`
	From     netip.Prefix `json:"from,omitzero"`
	To       netip.Prefix `json:"to,omitzero"`
	OIF      string       `json:"oif,omitempty"`
	Table    int          `json:"table"`
	// Suppress leaves routes with a prefix of this length or shorter out of
	// account; 0 leaves out none.
	Suppress int `json:"suppress,omitempty"`
}

// String shows the rule as `ip rule` does.
func (r Rule) String() string {
	s := fmt.Sprintf("%d:", r.Priority)
	if r.From.IsValid() {
		s += " from " + hostOrPrefix(r.From)
	}
	if r.To.IsValid() {
		s += " to " + hostOrPrefix(r.To)
	}
	if r.OIF != "" {
		s += " oif " + r.OIF + " (" + familyName(r.IPv6) + ")"
	}
	if r.Suppress > 0 {
		return fmt.Sprintf("%s lookup main suppress_prefixlength %d", s, r.Suppress)
	}
	return fmt.Sprintf("%s lookup %d", s, r.Table)
}

// Sysctl is one setting of the pod's namespace.
type Sysctl struct {
	Key  string `json:"key"` // below /proc/sys/net, such as "ipv4/conf/net1/arp_ignore"
	Want string `json:"want"`
	Had  string `json:"had,omitempty"` // before the rules
}

// String names the setting as sysctl(8) does, but keeps an interface's name.
func (s Sysctl) String() string { return "net/" + s.Key + " = " + s.Want }

// NIC is one network interface of the pod and the table that says how it
// reaches everything.
type NIC struct {
	Name       string       `json:"name"`
	Attachment int          `json:"attachment"` // 0 is the cluster network
	Table      int          `json:"table"`
	Addresses  []netip.Addr `json:"addresses,omitempty"` // those with a rule
}

// has reports whether the NIC has an address of the family.
func (n *NIC) has(ipv6 bool) bool {
	return slices.ContainsFunc(n.Addresses, func(a netip.Addr) bool { return a.Is6() == ipv6 })
}

// families are IPv4 and IPv6, as Rule.IPv6 tells them apart.
func families() []bool { return []bool{false, true} }

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

func isIPv6(p netip.Prefix) bool { return p.Addr().Is6() }

// everything is the default route's destination.
func everything(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// plainMetric is the metric of a route that names none.
func plainMetric(dst netip.Prefix) int {
	if isIPv6(dst) {
		return 1024
	}
	return 0
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func hostOrPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
