package routing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// kernelWriter is what apply needs of a kernel: a Pod, or a test's model.
type kernelWriter interface {
	addRoute(r *Route) error
	delRoute(r *Route) error
	addRule(r Rule) error
	delRule(r Rule) error
}

// apply brings the namespace from what it holds to what the plan wants.
func (p *Pod) apply(plan *Plan, have *State) error { return apply(p, plan, have) }

// apply brings a kernel from what it holds to what the plan wants. Only the
// difference is written, so that applying twice changes nothing.
func apply(w kernelWriter, plan *Plan, have *State) error {
	return errors.Join(applyRoutes(w, plan, have), applyRules(w, plan.Rules, have.Rules), applyMain(w, plan, have))
}

// ourTable reports whether a table is one of the rules' own.
func ourTable(table int) bool { return table >= FirstTable && table <= lastTable }

// ours reports whether a rule is one of those that are set here.
func (r Rule) ours() bool {
	switch r.Priority {
	case subnetPref:
		return r.Table == unix.RT_TABLE_MAIN && r.Suppress > 0
	case repliesPref, rangesPref:
		return ourTable(r.Table)
	}
	return false
}

// applyRoutes fills the tables.
func applyRoutes(w kernelWriter, plan *Plan, have *State) error {
	wanted := keysOf(plan.Routes)
	for _, r := range have.Routes {
		if ourTable(r.Table) && !wanted[r.key()] {
			if err := w.delRoute(&r); err != nil {
				return err
			}
		}
	}
	return addMissing(w, plan.Routes, have)
}

// addMissing adds those of the routes that are not there.
func addMissing(w kernelWriter, routes []Route, have *State) error {
	there := keysOf(have.Routes)
	for _, r := range byNeed(routes) {
		if !there[r.key()] {
			if err := w.addRoute(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

// byNeed orders routes so that a gateway can be reached when its route is
// added, and nothing is unreachable too early.
func byNeed(routes []Route) []Route {
	need := func(r Route) int {
		switch {
		case !unicast(&r):
			return 2
		case r.Gateway.IsValid() || len(r.Hops) > 0:
			return 1
		}
		return 0
	}
	out := slices.Clone(routes)
	slices.SortStableFunc(out, func(a, b Route) int { return need(a) - need(b) })
	return out
}

func applyRules(w kernelWriter, wanted, have []Rule) error {
	for _, r := range have {
		if r.ours() && !slices.Contains(wanted, r) {
			if err := w.delRule(r); err != nil {
				return err
			}
		}
	}
	for _, r := range wanted {
		if !slices.Contains(have, r) {
			if err := w.addRule(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyMain takes away and adds what R1, R2 and R5 want of the main table.
func applyMain(w kernelWriter, plan *Plan, have *State) error {
	if err := removeFromMain(w, plan.Removed, have); err != nil {
		return err
	}
	return addMissing(w, plan.Added, have)
}

// removeFromMain removes those of the routes that are there, and no others.
func removeFromMain(w kernelWriter, routes []Route, have *State) error {
	there, removed, gone := keysOf(have.Routes), keysOf(routes), map[routeKey]bool{}
	for _, r := range routes {
		if !there[r.key()] || gone[r.key()] {
			continue
		}
		if err := delExactly(w, &r, have, removed, gone); err != nil {
			return err
		}
	}
	return nil
}

// delExactly removes one route. Where the kernel could take another one for
// it, all that are alike go, and those that stay come back.
func delExactly(w kernelWriter, r *Route, have *State, removed, gone map[routeKey]bool) error {
	alike := have.main(func(o *Route) bool {
		return o.Dst == r.Dst && (r.Metric == 0 || o.Metric == r.Metric) && o.TOS == r.TOS && !gone[o.key()]
	})
	if !slices.ContainsFunc(alike, func(o Route) bool { return o.key() != r.key() && o.Metric == r.Metric && r.takes(&o) }) {
		gone[r.key()] = true
		return w.delRoute(r)
	}
	for _, o := range slices.Concat(alike, alike) {
		gone[o.key()] = removed[o.key()]
		if err := w.delRoute(&o); err != nil {
			return err
		}
	}
	for _, o := range alike {
		if !removed[o.key()] {
			if err := w.addRoute(&o); err != nil {
				return err
			}
		}
	}
	return nil
}

// takes reports whether the kernel, asked to remove r, could remove o: it
// compares what r names, with the first hops of o.
func (r *Route) takes(o *Route) bool {
	hops := o.Hops
	if len(hops) == 0 {
		hops = []Hop{{Gateway: o.Gateway, Dev: o.Dev}}
	}
	if len(r.Hops) == 0 {
		return hops[0].Dev == r.Dev && (!r.Gateway.IsValid() || hops[0].Gateway == r.Gateway)
	}
	return len(hops) <= len(r.Hops) && slices.EqualFunc(hops, r.Hops[:len(hops)], func(a, b Hop) bool { return a.Dev == b.Dev && a.Gateway == b.Gateway })
}

// addRoute appends: a route that is there already with another gateway stays.
func (p *Pod) addRoute(r *Route) error {
	if r.Dev != "" && p.index[r.Dev] == 0 {
		return network.Missing.Errorf("add route %q in %s: the interface is gone", r, p.path)
	}
	err := p.handle.RouteAppend(r.netlink(p.index))
	if onlink := *r; errors.Is(err, unix.ENETUNREACH) && r.Gateway.IsValid() {
		// The gateway's own route is in no table that the kernel looks into.
		onlink.Onlink = true
		err = p.handle.RouteAppend(onlink.netlink(p.index))
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route %q in %s: %w", r, p.path, err)
	}
	return nil
}

func (p *Pod) delRoute(r *Route) error {
	full := r.netlink(p.index)
	// What is left out here, the kernel does not compare.
	named := &netlink.Route{
		Table: full.Table, Dst: full.Dst, Gw: full.Gw, Via: full.Via, LinkIndex: full.LinkIndex, MultiPath: full.MultiPath,
		Priority: full.Priority, Tos: full.Tos, Scope: full.Scope, Type: full.Type,
	}
	err := p.handle.RouteDel(named)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %q in %s: %w", r, p.path, err)
	}
	return nil
}

func (p *Pod) addRule(r Rule) error {
	if err := p.handle.RuleAdd(r.netlink()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %q in %s: %w", r, p.path, err)
	}
	return nil
}

func (p *Pod) delRule(r Rule) error {
	if err := p.handle.RuleDel(r.netlink()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %q in %s: %w", r, p.path, err)
	}
	return nil
}
