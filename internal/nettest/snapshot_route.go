package nettest

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes lists every table of both families.
func (v *netView) routes() ([]string, error) {
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return v.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			if !automatic(route) {
				lines = append(lines, v.route(route))
			}
		}
	}
	return lines, nil
}

// automatic reports whether the kernel made the route because of an address.
func automatic(r netlink.Route) bool {
	if r.Table == unix.RT_TABLE_LOCAL {
		switch r.Type {
		case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
			return true
		}
	}
	return r.Dst != nil && r.Dst.String() == "ff00::/8"
}

// route writes a route as `ip route` would, with its family and table first.
func (v *netView) route(r netlink.Route) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s route %s table %s %s", v.label, familyName(r.Family), tableName(r.Table), prefixName(r.Dst))
	if r.Type != unix.RTN_UNICAST {
		fmt.Fprintf(&b, " type %d", r.Type)
	}
	v.nexthop(&b, r.Gw, r.Via, r.LinkIndex, r.Flags)
	for _, hop := range r.MultiPath {
		b.WriteString(" nexthop")
		v.nexthop(&b, hop.Gw, hop.Via, hop.LinkIndex, hop.Flags)
		fmt.Fprintf(&b, " weight %d", hop.Hops+1)
	}
	fmt.Fprintf(&b, " proto %s scope %s", r.Protocol, r.Scope)
	if r.Src != nil {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	for _, field := range []struct {
		name  string
		value int
	}{
		{"metric", r.Priority},
		{"tos", r.Tos},
		{"mtu", r.MTU},
		{"advmss", r.AdvMSS},
		{"realm", r.Realm},
	} {
		if field.value != 0 {
			fmt.Fprintf(&b, " %s %d", field.name, field.value)
		}
	}
	if r.Encap != nil {
		fmt.Fprintf(&b, " encap %s", r.Encap)
	}
	return b.String()
}

// nexthop leaves flags such as linkdown out: they follow the carrier.
func (v *netView) nexthop(b *strings.Builder, gw net.IP, via netlink.Destination, link, flags int) {
	if gw != nil {
		fmt.Fprintf(b, " via %s", gw)
	}
	if via != nil {
		fmt.Fprintf(b, " via %s", via)
	}
	if link != 0 {
		fmt.Fprintf(b, " dev %s", v.dev(link))
	}
	if flags&unix.RTNH_F_ONLINK != 0 {
		b.WriteString(" onlink")
	}
}

// rules lists the rules of both families.
func (v *netView) rules() ([]string, error) {
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := dump(func() ([]netlink.Rule, error) { return v.handle.RuleList(family) })
		if err != nil {
			return nil, err
		}
		for _, rule := range rules {
			lines = append(lines, fmt.Sprintf("%s rule %s %s", v.label, familyName(family), ruleText(rule)))
		}
	}
	return lines, nil
}

// ruleText writes a rule as `ip rule` would, the priority in a fixed width.
func ruleText(r netlink.Rule) string {
	return fmt.Sprintf("%5d:%s%s", max(r.Priority, 0), ruleSelector(r), ruleAction(r))
}

// ruleSelector writes which packets the rule is for.
func ruleSelector(r netlink.Rule) string {
	var b strings.Builder
	if r.Invert {
		b.WriteString(" not")
	}
	fmt.Fprintf(&b, " from %s", selectorName(r.Src))
	if r.Dst != nil {
		fmt.Fprintf(&b, " to %s", selectorName(r.Dst))
	}
	if r.IifName != "" {
		fmt.Fprintf(&b, " iif %s", normalName(r.IifName))
	}
	if r.OifName != "" {
		fmt.Fprintf(&b, " oif %s", normalName(r.OifName))
	}
	if r.Mask != nil {
		fmt.Fprintf(&b, " fwmark %#x/%#x", r.Mark, *r.Mask)
	}
	if r.Tos != 0 {
		fmt.Fprintf(&b, " tos %d", r.Tos)
	}
	if r.IPProto != 0 {
		fmt.Fprintf(&b, " ipproto %d", r.IPProto)
	}
	if r.Sport != nil {
		fmt.Fprintf(&b, " sport %d-%d", r.Sport.Start, r.Sport.End)
	}
	if r.Dport != nil {
		fmt.Fprintf(&b, " dport %d-%d", r.Dport.Start, r.Dport.End)
	}
	if r.UIDRange != nil {
		fmt.Fprintf(&b, " uidrange %d-%d", r.UIDRange.Start, r.UIDRange.End)
	}
	return b.String()
}

// ruleAction writes what happens to these packets.
func ruleAction(r netlink.Rule) string {
	var b strings.Builder
	if r.Goto > 0 {
		fmt.Fprintf(&b, " goto %d", r.Goto)
	}
	if r.Type != 0 && r.Type != unix.FR_ACT_TO_TBL {
		fmt.Fprintf(&b, " action %d", r.Type)
	}
	if r.Table > 0 {
		fmt.Fprintf(&b, " lookup %s", tableName(r.Table))
	}
	if r.SuppressPrefixlen >= 0 {
		fmt.Fprintf(&b, " suppress_prefixlength %d", r.SuppressPrefixlen)
	}
	return b.String()
}

func familyName(family int) string {
	if family == netlink.FAMILY_V6 {
		return "inet6"
	}
	return "inet"
}

func tableName(table int) string {
	switch table {
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return strconv.Itoa(table)
}

func prefixName(p *net.IPNet) string {
	if isWhole(p) {
		return "default"
	}
	return p.String()
}

func selectorName(p *net.IPNet) string {
	if isWhole(p) {
		return "all"
	}
	return p.String()
}

// isWhole reports whether the prefix covers its family; nil does.
func isWhole(p *net.IPNet) bool {
	if p == nil {
		return true
	}
	ones, _ := p.Mask.Size()
	return ones == 0
}
