package routing

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// destinations are addresses on all sides.
func destinations() []netip.Addr {
	var out []netip.Addr
	for _, a := range []string{
		"10.244.7.9", "10.244.9.9", "10.244.200.1", "10.96.0.1", "10.97.0.9", "10.50.0.9", "10.51.0.9", "10.99.1.1", "192.0.2.9", "9.9.9.9", "200.1.1.1", "169.254.20.10",
		"fd00:244::9", "fd00:244:0:9::1", "fd00:96::1", "fd50:1::9", "fd50:2::9", "fd99::1", "2001:db8::1", "9000::1",
	} {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// Whatever networks a pod gets, and whatever their plugins did, what must
// always be true of a plan is true.
func TestPlansOfRandomPods(t *testing.T) {
	refused := 0
	const pods = 4000
	for seed := range uint64(pods) {
		in := arrange(seed)
		plan, err := Decide(in)
		if err != nil {
			if !errors.Is(err, network.Invalid) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			refused++
			continue
		}
		if wrong := violations(in, plan); len(wrong) > 0 {
			t.Fatalf("seed %d:\n%s\nnetworks: %+v\nafter: %+v\nplan: %+v", seed, join(wrong), in.Networks, in.After, plan)
		}
	}
	if refused == 0 || refused > pods/5 {
		t.Errorf("%d of %d pods are refused: the pods prove little", refused, pods)
	}
}

func join(lines []string) string {
	out := ""
	for _, l := range lines {
		out += l + "\n"
	}
	return out
}

// violations lists what is wrong with a plan.
func violations(in Input, plan *Plan) []string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	m := applied(plan, in.After)
	oneCarrier(plan, m, bad)
	if !plan.secondaries() {
		if len(plan.Rules)+len(plan.Routes)+len(plan.Sysctls) > 0 {
			bad("a pod without more NICs gets rules")
		}
		return wrong
	}
	everyAddressHasItsRule(plan, m, bad)
	nothingLeavesByTheWrongNIC(in, plan, m, bad)
	mainKeepsItsRoutes(in, plan, m, bad)
	comparesWell(plan, m, bad)
	undoes(in, plan, m, bad)
	resultsAgree(in, plan, m, bad)
	return wrong
}

type report func(format string, args ...any)

// oneCarrier: main has one carrier of a family's default route.
func oneCarrier(plan *Plan, m *model, bad report) {
	for _, ipv6 := range families() {
		for _, r := range defaultLike(m.main(unicast), ipv6) {
			if r.Dev != plan.carrier(ipv6).NIC {
				bad("main keeps %q, but %s", &r, plan.carrier(ipv6).whose())
			}
		}
	}
}

func everyAddressHasItsRule(plan *Plan, m *model, bad report) {
	for _, a := range m.Addresses {
		var tables []int
		for _, r := range plan.Rules {
			if r.From == host(a.Prefix.Addr()) && r.Priority == repliesPref {
				tables = append(tables, r.Table)
			}
		}
		if len(tables) != 1 || plan.nic(a.Dev).Table != tables[0] {
			bad("%s of %s has rules to %v", a.Prefix, a.Dev, tables)
		}
	}
}

func nothingLeavesByTheWrongNIC(in Input, plan *Plan, m *model, bad report) {
	for _, dst := range destinations() {
		for _, a := range m.Addresses {
			if a.Prefix.Addr().Is6() != dst.Is6() {
				continue
			}
			if by := m.out(a.Prefix.Addr(), dst, ""); by != "" && by != a.Dev {
				bad("from %s of %s to %s leaves by %s", a.Prefix.Addr(), a.Dev, dst, by)
			}
		}
		known := slices.ContainsFunc(in.Ranges, func(r netip.Prefix) bool { return r.Contains(dst) }) ||
			slices.ContainsFunc(in.Before.Routes, func(r Route) bool {
				return r.Dst.Bits() > 1 && r.Dst.Contains(dst)
			})
		if by := m.out(netip.Addr{}, dst, ""); known && plan.uses(dst.Is6()) && by != "" && by != "eth0" {
			bad("to %s of the cluster leaves by %s", dst, by)
		}
		for _, nic := range plan.NICs {
			if by := m.out(netip.Addr{}, dst, nic.Name); nic.has(dst.Is6()) && by != "" && by != nic.Name {
				bad("a socket bound to %s reaches %s by %s", nic.Name, dst, by)
			}
		}
	}
}

func mainKeepsItsRoutes(in Input, plan *Plan, m *model, bad report) {
	have := keysOf(m.Routes)
	defaults := map[routeKey]bool{}
	for _, ipv6 := range families() {
		for k := range keysOf(defaultLike(in.After.main(unicast), ipv6)) {
			defaults[k] = true
		}
		for _, nic := range plan.NICs {
			mine := in.After.main(func(r *Route) bool { return r.Dev == nic.Name })
			for k := range keysOf(defaultLike(mine, ipv6)) {
				defaults[k] = true
			}
		}
	}
	for _, r := range in.After.main(unicast) {
		if !have[r.key()] && !defaults[r.key()] {
			bad("main lost %q", &r)
		}
	}
}

// comparesWell: what the plan makes agrees with it, twice as well as once,
// and not when anything is taken away.
func comparesWell(plan *Plan, m *model, bad report) {
	sysctls := map[string]string{}
	for _, s := range plan.Sysctls {
		sysctls[s.Key] = s.Want
	}
	if err := compare(plan, &m.State, sysctls); err != nil {
		bad("the plan's own state differs from it: %v", err)
	}
	if twice := applied(plan, &m.State); !cmp.Equal(twice.State, m.State, equalValues()) {
		bad("applied twice is not applied once: %s", cmp.Diff(m.State, twice.State, equalValues()))
	}
	for i := range plan.Rules {
		less := m.State
		less.Rules = slices.Delete(slices.Clone(m.Rules), i, i+1)
		if compare(plan, &less, sysctls) == nil {
			bad("nobody misses rule %q", plan.Rules[i])
		}
	}
	for _, r := range slices.Concat(plan.Routes, plan.Added) {
		less := m.State
		less.Routes = slices.DeleteFunc(slices.Clone(m.Routes), func(o Route) bool { return o.key() == r.key() })
		if compare(plan, &less, sysctls) == nil {
			bad("nobody misses route %q", &r)
		}
	}
	stranger := m.State
	stranger.Routes = append(slices.Clone(m.Routes), Route{Table: unix.RT_TABLE_MAIN, Dst: everything(false), Dev: "net9", Metric: 5})
	if compare(plan, &stranger, sysctls) == nil {
		bad("nobody minds a foreign default route")
	}
	raw, err := json.Marshal(plan)
	again := &Plan{}
	if err = errors.Join(err, json.Unmarshal(raw, again)); err != nil || compare(again, &m.State, sysctls) != nil {
		bad("the plan does not outlive its journal: %v", err)
	}
}

func equalValues() cmp.Options {
	return cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}
}

// undoes: after Undo, main has the cluster network's default routes.
func undoes(in Input, plan *Plan, m *model, bad report) {
	back := undoing(plan, &m.State)
	undone := applied(back, &m.State)
	have := keysOf(undone.main(unicast))
	for _, r := range in.After.main(unicast) {
		if r.Dev == "eth0" && !have[r.key()] {
			bad("undone, main lacks %q", &r)
		}
	}
}

// resultsAgree: no result names a default route that main lacks.
func resultsAgree(in Input, plan *Plan, m *model, bad report) {
	for i, n := range in.Networks {
		for _, shown := range []struct {
			what   string
			result []Route
		}{{"Left", routesIn(plan.Left(i, n.Result).Routes)}, {"Shown", routesIn(plan.Shown(i, n.Result).Routes)}} {
			for _, ipv6 := range families() {
				for _, r := range defaultLike(shown.result, ipv6) {
					if !slices.ContainsFunc(m.main(unicast), func(o Route) bool { return o.Dst == r.Dst && plan.nic(o.Dev).Attachment == i }) {
						bad("%s of %s names %q, which main lacks", shown.what, n.IfName, &r)
					}
				}
			}
		}
	}
	if !plan.Carriers[0].Asked && !plan.Carriers[1].Asked && plan.Shown(0, in.Networks[0].Result) != in.Networks[0].Result {
		bad("the cluster network's result changes although nothing moved")
	}
}
