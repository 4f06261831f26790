package routing

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// model is a kernel that knows only how it chooses a route.
type model struct{ State }

// applied is the state that a plan makes of another.
func applied(plan *Plan, s *State) *model {
	m := &model{State{Links: s.Links, Addresses: s.Addresses}}
	removed, have := keysOf(plan.Removed), map[routeKey]bool{}
	for _, r := range slices.Concat(s.Routes, plan.Routes, plan.Added) {
		if removed[r.key()] && r.Table == unix.RT_TABLE_MAIN || have[r.key()] {
			continue
		}
		have[r.key()] = true
		m.Routes = append(m.Routes, r)
	}
	m.Rules = slices.Clone(plan.Rules)
	return m
}

// out returns the NIC that a packet leaves by, or "" when it leaves by none.
func (m *model) out(src, dst netip.Addr, oif string) string {
	rules := append(slices.Clone(m.Rules), Rule{Priority: 32766, Table: unix.RT_TABLE_MAIN})
	slices.SortStableFunc(rules, func(a, b Rule) int { return a.Priority - b.Priority })
	for _, rule := range rules {
		if rule.From.IsValid() && (!src.IsValid() || !rule.From.Contains(src)) ||
			rule.To.IsValid() && !rule.To.Contains(dst) || rule.OIF != "" && (rule.OIF != oif || rule.IPv6 != dst.Is6()) {
			continue
		}
		if best := m.best(rule.Table, dst, oif); best != nil && (rule.Suppress == 0 || best.Dst.Bits() > rule.Suppress) {
			return best.Dev
		}
	}
	return ""
}

// best is the longest match of the lowest metric in a table.
func (m *model) best(table int, dst netip.Addr, oif string) *Route {
	var best *Route
	for i := range m.Routes {
		r := &m.Routes[i]
		if r.Table != table || !r.Dst.Contains(dst) || oif != "" && unicast(r) && r.Dev != oif {
			continue
		}
		if best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	return best
}
