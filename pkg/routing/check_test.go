package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// checker looks for what a plan must never do in a world.
type checker struct {
	*world
	in        Input
	plan      *Plan
	then, now *kernel // before and after the plan took effect
	nics      []NIC   // as the world has them, without a look at the plan
	found     []problem
}

// problem is an invariant that does not hold.
type problem struct{ name, text string }

func (c *checker) problem(name, format string, args ...any) {
	c.found = append(c.found, problem{name, fmt.Sprintf(format, args...)})
}

// check decides a world and returns what is wrong with it.
func check(w *world) []problem {
	c := &checker{world: w, in: w.input(), then: w.clone(), now: w.clone()}
	c.findNICs()
	plan, err := Decide(c.in)
	why := c.refusal()
	switch strict := err != nil && strings.Contains(err.Error(), "routing.strict"); {
	case err != nil && (!errors.Is(err, network.Invalid) || why == "" && !strict || strict && !w.strict):
		c.problem("refused", "%v", err)
	case err == nil && why != "":
		c.problem("accepted", "%s", why)
	}
	if err != nil || len(c.found) > 0 {
		return c.found
	}
	c.plan = plan
	c.now.apply(plan)
	for _, f := range []func(){
		c.checkNICs, c.checkAlone, c.checkDefaults, c.checkKept, c.checkRules, c.checkFlows, c.checkReach,
		c.checkSettings, c.checkTwice, c.checkCompare, c.checkWithout, c.checkNotices, c.checkUndo, c.checkJSON, c.checkResults,
	} {
		f()
	}
	return c.found
}

// findNICs lists the NICs of the pod, with the addresses that need a rule.
func (c *checker) findNICs() {
	taken, table := map[string]bool{}, FirstTable
	claimed := func(name string) bool {
		return slices.ContainsFunc(c.parts, func(p *part) bool { return slices.Contains(p.names(), name) })
	}
	owned := map[netip.Addr]bool{}
	for i, p := range c.parts {
		names := slices.Clone(p.names())
		slices.SortStableFunc(names, func(a, b string) int { return place(a, p.ifname) - place(b, p.ifname) })
		for _, l := range c.Links {
			was := c.before.link(l.Name) != nil
			if (was && i == 0 || !was && i == len(c.parts)-1) && !claimed(l.Name) && c.hasAddress(l.Name) {
				names = append(names, l.Name)
			}
		}
		first := table
		for _, name := range names {
			if c.link(name) == nil || taken[name] {
				continue
			}
			taken[name] = true
			nic := NIC{Name: name, Attachment: i, Table: table}
			for _, a := range c.Addresses {
				if a.Dev == name && c.link(name).Up && !owned[a.Prefix.Addr()] {
					owned[a.Prefix.Addr()] = true
					nic.Addresses = append(nic.Addresses, a.Prefix.Addr())
				}
			}
			c.nics = append(c.nics, nic)
			table++
		}
		table = max(table, first+1)
	}
}

// names are the interfaces that are the part's by its result.
func (p *part) names() []string {
	if len(p.result.Interfaces) == 0 {
		return []string{p.ifname}
	}
	if p.claimed == nil {
		return []string{p.ifname}
	}
	return p.claimed
}

func place(name, first string) int {
	if name == first {
		return 0
	}
	return 1
}

// first returns the first NIC of an attachment, or nil.
func (c *checker) first(attachment int) *NIC {
	i := slices.IndexFunc(c.nics, func(n NIC) bool { return n.Attachment == attachment })
	if i < 0 {
		return nil
	}
	return &c.nics[i]
}

// clusterNIC reports whether a NIC belongs to the cluster network.
func (c *checker) clusterNIC(name string) bool {
	return slices.ContainsFunc(c.nics, func(n NIC) bool { return n.Name == name && n.Attachment == 0 })
}

func (c *checker) several() bool {
	return slices.ContainsFunc(c.nics, func(n NIC) bool { return n.Attachment > 0 })
}

// refusal says why a selection cannot be had, if so.
func (c *checker) refusal() string {
	for i, p := range c.parts {
		if p.asked == nil {
			continue
		}
		nic := c.first(i)
		if nic == nil {
			return "no kernel device"
		}
		for _, gateway := range *p.asked {
			if !nic.has(gateway.Is6()) || c.broadcast(nic.Name, gateway) || slices.Contains(nic.Addresses, gateway) || !c.direct(nic.Name, gateway) {
				return fmt.Sprintf("%s is no gateway of %s", gateway, nic.Name)
			}
		}
	}
	return ""
}

// direct reports whether a NIC reaches an address without a gateway.
func (c *checker) direct(nic string, a netip.Addr) bool {
	subnet := slices.ContainsFunc(c.in.After.Addresses, func(o Address) bool { return o.Dev == nic && o.Prefix.Contains(a) })
	route := slices.ContainsFunc(c.in.After.Routes, func(r Route) bool {
		return r.Dev == nic && !r.Gateway.IsValid() && r.Dst.Bits() > 0 && r.Dst.Contains(a)
	})
	return subnet || route || a.Is6() && a.IsLinkLocalUnicast()
}

// broadcast reports whether an address is none that a host on a NIC's subnet
// can have.
func (c *checker) broadcast(nic string, a netip.Addr) bool {
	return a.Is4() && slices.ContainsFunc(c.in.After.Addresses, func(o Address) bool {
		p := o.Prefix.Masked()
		return o.Dev == nic && p.Addr().Is4() && p.Bits() < 31 && (a == p.Addr() || a == lastOf(p))
	})
}

// checkNICs: every NIC has its place and its table.
func (c *checker) checkNICs() {
	if len(c.plan.NICs) != len(c.nics) {
		c.problem("nics", "%v, want %v", c.plan.NICs, c.nics)
		return
	}
	for i, want := range c.nics {
		if have := c.plan.NICs[i]; have.Name != want.Name || have.Attachment != want.Attachment || have.Table != want.Table {
			c.problem("nics", "%v, want %v", have, want)
		}
	}
}

// checkAlone: a pod with the cluster network alone is left as it is.
func (c *checker) checkAlone() {
	p := c.plan
	if !c.several() && len(p.Rules)+len(p.Routes)+len(p.Sysctls)+len(p.Added)+len(p.Removed) > 0 {
		c.problem("alone", "rules %v, routes %v, sysctls %v, added %v, removed %v", p.Rules, p.Routes, p.Sysctls, p.Added, p.Removed)
	}
}

// checkRules: every address of a NIC that is up has one rule, and nothing
// else has one.
func (c *checker) checkRules() {
	if !c.several() {
		return
	}
	count := map[Rule]int{}
	for _, r := range c.plan.Rules {
		if r.From.IsValid() && r.Priority == repliesPref {
			count[r]++
		}
	}
	for _, nic := range c.nics {
		for _, a := range nic.Addresses {
			r := Rule{Priority: repliesPref, IPv6: a.Is6(), From: host(a), Table: nic.Table}
			if count[r] != 1 {
				c.problem("rules", "%d times %q", count[r], r)
			}
			delete(count, r)
		}
	}
	for r := range count {
		c.problem("rules", "%q is nobody's", r)
	}
}

// believed reports whether a route is a network's own: a router that
// advertises itself is believed only where the network's definition wants it.
func (c *checker) believed(r *Route) bool {
	wants := c.in.Sysctls["ipv6/conf/"+r.Dev+"/accept_ra"]
	return r.Protocol != unix.RTPROT_RA || c.clusterNIC(r.Dev) || wants != "" && wants != "0"
}
