package routing

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Compare is R7: it reads the kernel and reports what is not as the plan
// says. ADD does it before it returns, CHECK again. Errors are of kind
// Missing, one for each difference.
func (p *Pod) Compare(plan *Plan) error {
	have, err := p.State()
	if err != nil {
		return err
	}
	return p.readBack(plan, have)
}

// readBack is Compare for a state that was just read.
func (p *Pod) readBack(plan *Plan, have *State) error {
	sysctls, err := p.readSysctls(keysIn(plan.Sysctls))
	if err != nil {
		return err
	}
	return compare(plan, have, sysctls)
}

// compare is the pure part of Compare.
func compare(plan *Plan, have *State, sysctls map[string]string) error {
	var missing []error
	differs := func(format string, args ...any) { missing = append(missing, network.Missing.Errorf(format, args...)) }
	for _, r := range plan.Rules {
		if !slices.Contains(have.Rules, r) {
			differs("rule %q is missing", r)
		}
	}
	there := keysOf(have.Routes)
	routes := slices.Concat(plan.Routes, plan.Added)
	for _, c := range plan.Carriers {
		if !c.Unchecked {
			routes = append(routes, c.Routes...)
		}
	}
	for _, r := range routes {
		if !there[r.key()] {
			there[r.key()] = true // once is enough
			differs("route %q is missing", &r)
		}
	}
	for _, ipv6 := range families() {
		for _, r := range plan.strangers(have, ipv6) {
			differs("default route %q does not belong there: %s", &r, plan.carrier(ipv6).whose())
		}
	}
	for _, s := range plan.Sysctls {
		if now := sysctls[s.Key]; now != s.Want {
			differs("sysctl %s is now %q", s, now)
		}
	}
	return errors.Join(missing...)
}

// Without returns the plan less what is about the NICs of attachment i, for a
// network whose definition wants no CHECK.
func (p *Plan) Without(i int) *Plan {
	out := *p
	nicOf := func(table int) bool {
		return slices.ContainsFunc(p.NICs, func(n NIC) bool { return n.Attachment == i && n.Table == table })
	}
	byIt := func(r Route) bool {
		return slices.ContainsFunc(p.NICs, func(n NIC) bool { return n.Attachment == i && r.by(n.Name) })
	}
	out.Rules = slices.DeleteFunc(slices.Clone(p.Rules), func(r Rule) bool {
		return nicOf(r.Table) || r.Priority == subnetPref && slices.ContainsFunc(p.NICs, func(n NIC) bool {
			return n.Attachment == i && slices.Contains(n.Addresses, r.From.Addr())
		})
	})
	out.Routes = slices.DeleteFunc(slices.Clone(p.Routes), func(r Route) bool { return nicOf(r.Table) })
	out.Added = slices.DeleteFunc(slices.Clone(p.Added), byIt)
	out.Sysctls = slices.DeleteFunc(slices.Clone(p.Sysctls), func(s Sysctl) bool {
		return slices.ContainsFunc(p.NICs, func(n NIC) bool { return n.Attachment == i && s.nic() == n.Name })
	})
	for c := range out.Carriers {
		out.Carriers[c].Unchecked = p.Carriers[c].Unchecked || p.Carriers[c].Attachment == i
	}
	return &out
}

// strangers are the default routes in main by another NIC than the carrier's,
// or, when a selection names the gateways, by another gateway.
func (p *Plan) strangers(have *State, ipv6 bool) []Route {
	carrier := p.carrier(ipv6)
	wanted, kept := keysOf(carrier.Routes), keysOf(p.Kept)
	out := slices.DeleteFunc(defaultLike(have.main(unicast), ipv6), func(r Route) bool {
		own := r.Dev == carrier.NIC || carrier.NIC == "" && r.Dev == p.eth0()
		return wanted[r.key()] || kept[r.key()] || own && !carrier.Asked
	})
	for _, r := range defaultLike(have.main(func(r *Route) bool { return !unicast(r) }), ipv6) {
		if carrier.hiddenBy(&r) {
			out = append(out, r)
		}
	}
	return out
}

// hiddenBy reports whether a default route to nowhere comes before the
// carrier's.
func (c *Carrier) hiddenBy(nowhere *Route) bool {
	return slices.ContainsFunc(c.Routes, func(r Route) bool {
		return nowhere.Dst.Bits() > r.Dst.Bits() || nowhere.Dst == r.Dst && nowhere.Metric <= r.Metric
	})
}

func (c *Carrier) whose() string {
	if c.NIC == "" {
		return "no NIC carries the default route"
	}
	return c.NIC + " carries the default route"
}

// rulesAll reports whether every address has its rule: one that has none came
// after the plan.
func (p *Plan) rulesAll(have *State) bool {
	return !p.secondaries() || !slices.ContainsFunc(have.Addresses, func(a Address) bool {
		from := host(a.Prefix.Addr())
		return p.nic(a.Dev) != nil && have.link(a.Dev).Up && !slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Priority == repliesPref && r.From == from })
	})
}

// newIn returns the routes of main that a later state has and this one lacks.
func (s *State) newIn(later *State) []Route {
	known := keysOf(s.Routes)
	return slices.DeleteFunc(slices.Clone(later.Routes), func(r Route) bool {
		return r.Table != unix.RT_TABLE_MAIN || known[r.key()]
	})
}
