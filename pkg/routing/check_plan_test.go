package routing

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// checkTwice: a second time, nothing is written, and deciding again decides
// the same.
func (c *checker) checkTwice() {
	again := c.now.clone()
	again.apply(c.plan)
	if !reflect.DeepEqual(again, c.now) {
		c.problem("twice", "applied again: %s", cmp.Diff(c.now.State, again.State, planOptions()...))
	}
	plan, err := Decide(c.in)
	if err != nil || !reflect.DeepEqual(plan, c.plan) {
		c.problem("twice", "decided again: %v %s", err, cmp.Diff(c.plan, plan, planOptions()...))
	}
}

func planOptions() []cmp.Option {
	return []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Route{}, "Protocol", "Encap")}
}

// checkCompare: what was set is what was wanted.
func (c *checker) checkCompare() {
	if err := c.now.compare(c.plan); err != nil {
		c.problem("compare", "%v", err)
	}
}

// checkWithout: the same goes for a plan without a network that wants no
// CHECK, also when that network is gone.
func (c *checker) checkWithout() {
	for i := range c.parts {
		less := c.plan.Without(i)
		if err := c.now.compare(less); err != nil {
			c.problem("without", "%d: %v", i, err)
		}
		gone := c.now.clone()
		for _, nic := range c.nics {
			if nic.Attachment == i {
				gone.setDown(nic.Name)
			}
		}
		if err := gone.compare(less); err != nil && i > 0 {
			c.problem("without", "%d, which is down: %v", i, err)
		}
	}
}

// checkNotices: whatever is taken away, or done besides, is noticed.
func (c *checker) checkNotices() {
	try := func(what any, change func(k *kernel)) {
		k := c.now.clone()
		if change(k); k.compare(c.plan) == nil {
			c.problem("notices", "nobody notices: %v", what)
		}
	}
	for _, r := range some(c.plan.Rules) {
		try(r, func(k *kernel) { k.delRule(r) })
	}
	for _, r := range some(slices.Concat(c.plan.Routes, c.plan.Added, c.plan.Carriers[0].Routes, c.plan.Carriers[1].Routes)) {
		try(&r, func(k *kernel) {
			k.Routes = slices.DeleteFunc(k.Routes, func(o Route) bool { return o.key() == r.key() })
		})
	}
	for _, s := range some(c.plan.Sysctls) {
		try(s, func(k *kernel) { k.sysctls[s.Key] = "9" })
	}
	for _, nic := range c.nics {
		for _, dst := range []string{"0.0.0.0/0", "::/0"} {
			r := direct(nic.Name, netip.MustParsePrefix(dst))
			carrier := c.plan.carrier(isIPv6(r.Dst))
			own := nic.Name == carrier.NIC || carrier.NIC == "" && nic.Name == c.plan.eth0()
			if r.Metric = 77; c.link(nic.Name).Up && (!own || carrier.Asked) {
				try(&r, func(k *kernel) { k.addRoute(&r, appended) })
			}
		}
	}
}

// some of a list, others of another: all of a long one is nothing new.
func some[T any](list []T) []T {
	var out []T
	for i := len(list) % 5; i < len(list); i += 1 + len(list)/5 {
		out = append(out, list[i])
	}
	return out
}

// checkUndo: the cluster network has its routes back, and nothing of ours is
// left.
func (c *checker) checkUndo() {
	k := c.now.clone()
	k.undo(c.plan)
	have, known := keysOf(k.Routes), keysOf(slices.Concat(c.before.Routes, c.in.After.Routes))
	for _, r := range c.before.Routes {
		if !have[r.key()] {
			c.problem("undo", "%q is not back", &r)
		}
	}
	for _, r := range k.Routes {
		if !known[r.key()] {
			c.problem("undo", "%q is left", &r)
		}
	}
	if !reflect.DeepEqual(k.Rules, c.then.Rules) {
		c.problem("undo", "rules are %v", k.Rules)
	}
	if !reflect.DeepEqual(k.sysctls, c.then.sysctls) {
		c.problem("undo", "sysctls: %s", cmp.Diff(c.then.sysctls, k.sysctls))
	}
}

// checkJSON: the journal's copy of a plan is as good as the plan.
func (c *checker) checkJSON() {
	raw, err := json.Marshal(c.plan)
	if err != nil {
		c.problem("json", "%v", err)
		return
	}
	var again *Plan
	if err = json.Unmarshal(raw, &again); err != nil {
		c.problem("json", "%v", err)
		return
	}
	if rewritten, _ := json.Marshal(again); !bytes.Equal(raw, rewritten) || len(raw)%16 == 0 && !cmp.Equal(c.plan, again, planOptions()...) {
		c.problem("json", "%s", cmp.Diff(c.plan, again, planOptions()...))
	}
	one, other := c.now.clone(), c.now.clone()
	one.undo(c.plan)
	other.undo(again)
	if !reflect.DeepEqual(keysOf(one.Routes), keysOf(other.Routes)) || (c.now.compare(again) == nil) != (c.now.compare(c.plan) == nil) {
		c.problem("json", "it means something else")
	}
	if c.plan.carrier(false).Asked && len(c.plan.carrier(false).Routes) == 0 || slices.ContainsFunc(c.plan.Added, func(r Route) bool { return r.Table != unix.RT_TABLE_MAIN }) {
		c.problem("json", "%s", raw)
	}
}
