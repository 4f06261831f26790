package routing

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// realWorlds are random worlds with several NICs, all of which the rules
// accept.
func realWorlds(seed, count int) []*world {
	random := rand.New(rand.NewPCG(uint64(seed), 3))
	var out []*world
	for len(out) < count {
		w := newWorld(randomBytes(random))
		w.noIPv6 = false
		c := &checker{world: w, in: w.input()}
		c.findNICs()
		if _, err := Decide(c.in); err == nil && len(c.nics) > 1 && len(c.nics) < 6 {
			out = append(out, w)
		}
	}
	return out
}

// In real namespaces, the kernel takes the plans, holds them, acts as the
// model says, and has nothing left of them afterwards.
func TestRulesHoldInTheKernel(t *testing.T) {
	for i, w := range realWorlds(number(t, "MULTIPLEXER_SEED", 1), number(t, "MULTIPLEXER_REAL_WORLDS", 20)) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("in this world:\n%s", w)
				}
			})
			inKernel(newWorldPod(t), w)
		})
	}
}

func inKernel(p *worldPod, w *world) {
	p.Helper()
	p.run(w.scripts[0])
	p.same("before", p.state(), w.before)
	before := p.dump()
	guard, err := Begin(p.ns.Path(), func(*Plan) error { return nil })
	p.must(err)
	defer guard.Close()
	p.run(w.scripts[1])
	p.same("after", p.state(), w.snapshot())
	in := w.input()
	plan, err := guard.Finish(Input{Networks: in.Networks, Ranges: in.Ranges, Strict: in.Strict})
	p.must(err)
	p.must(p.pod.Compare(plan))
	p.readBack(plan)
	now := w.clone()
	now.apply(plan)
	p.same("applied", p.state(), now.snapshot())
	p.agrees(w, plan)

	held := p.dump()
	p.must(p.pod.apply(plan, p.state()))
	nettest.RequireSame(p, held, p.dump())

	p.must(Undo(p.ns.Path(), plan))
	now.undo(plan)
	p.same("undone", p.state(), now.snapshot())
	p.tidy(w)
	nettest.RequireSame(p, before, p.dump())
}

func (p *worldPod) dump() string {
	p.Helper()
	return nettest.RequireSnapshot(p, nettest.SnapshotOptions{Namespaces: map[string]string{"pod": p.ns.Path()}})
}

// same compares a namespace with what the model says of it.
func (p *worldPod) same(when string, have, want *State) {
	p.Helper()
	if diff := gocmp.Diff(stateText(want), stateText(have)); diff != "" {
		p.Fatalf("%s: -model +kernel:\n%s", when, diff)
	}
}

// stateText shows a state without an order that means nothing: of IPv4, the
// order of routes that are alike but for their way means something.
func stateText(s *State) []string {
	var out []string
	for _, l := range s.Links {
		out = append(out, fmt.Sprintf("link %s up %v", l.Name, l.Up))
	}
	for _, a := range s.Addresses {
		out = append(out, fmt.Sprintf("address %s %s", a.Dev, a.Prefix))
	}
	for _, r := range s.Rules {
		out = append(out, "rule "+r.String())
	}
	slices.Sort(out)
	routes := slices.Clone(s.Routes)
	slices.SortStableFunc(routes, func(a, b Route) int {
		c := cmp.Or(a.Table-b.Table, a.Dst.Addr().Compare(b.Dst.Addr()), a.Dst.Bits()-b.Dst.Bits(), b.TOS-a.TOS, a.Metric-b.Metric)
		if c == 0 && isIPv6(a.Dst) {
			c = strings.Compare(a.String(), b.String())
		}
		return c
	})
	for i := range routes {
		if ourTable(routes[i].Table) {
			routes[i].Protocol = 0
		}
		out = append(out, fmt.Sprintf("route %d metric %d %s", routes[i].Table, routes[i].Metric, routeText(&routes[i])))
	}
	return out
}

// readBack: the namespace holds the plan's rules and tables, and no others.
func (p *worldPod) readBack(plan *Plan) {
	p.Helper()
	s := p.state()
	rules := slices.DeleteFunc(s.Rules, func(r Rule) bool { return !r.ours() })
	routes := slices.DeleteFunc(s.Routes, func(r Route) bool { return !ourTable(r.Table) })
	have, want := stateText(&State{Rules: rules, Routes: routes}), stateText(&State{Rules: plan.Rules, Routes: plan.Routes})
	slices.Sort(have)
	slices.Sort(want)
	if diff := gocmp.Diff(want, have); diff != "" {
		p.Fatalf("-plan +kernel:\n%s", diff)
	}
}

// agrees: the kernel sends packets where the model says.
func (p *worldPod) agrees(w *world, plan *Plan) {
	p.Helper()
	model := &kernel{State: *p.state()}
	c := &checker{world: w, in: w.input(), plan: plan}
	asked := 0
	for _, dst := range slices.DeleteFunc(c.destinations(), func(a netip.Addr) bool { return !ordinary(a) }) {
		flows := []flow{{dst: dst}}
		for _, nic := range plan.NICs {
			for _, src := range nic.Addresses {
				if src.Is6() == dst.Is6() {
					flows = append(flows, flow{src: src, dst: dst})
				}
			}
			if model.link(nic.Name).Up {
				flows = append(flows, flow{dst: dst, oif: nic.Name})
			}
		}
		for _, f := range flows {
			asked++
			if want, have := model.lookup(f), p.leaves(f); !slices.Contains(want, have) {
				p.Errorf("%+v leaves by %s, the model says %v", f, have, want)
			}
		}
	}
	if asked == 0 {
		p.Error("nothing was asked")
	}
}
