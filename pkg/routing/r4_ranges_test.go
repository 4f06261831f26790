package routing

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// What is not known of the cluster's ranges, by clusterCIDRs, by the cluster
// network's routes and by the pod's own subnet.
func TestUnknownRanges(t *testing.T) {
	const bridge, calico = "10.244.1.7/24", "10.244.1.7/32"
	const both, pods, services = "pod and Service ranges", "pod range", "Service range"
	for name, test := range map[string]struct{ address, ranges, routes, want string }{
		"nothing known":                    {bridge, "", "", both},
		"all named":                        {bridge, "10.244.0.0/16 10.96.0.0/12", "", ""},
		"pods named":                       {bridge, "10.244.0.0/16", "", services},
		"Services named":                   {bridge, "10.96.0.0/12", "", pods},
		"of the other family":              {bridge, "fd00::/8 2001:db8::/32", "", both},
		"the node's slice is not enough":   {bridge, "10.96.0.0/12", "10.244.1.0/24", pods},
		"named, it is":                     {bridge, "10.96.0.0/12 10.244.1.0/24", "", ""},
		"a wider route":                    {bridge, "", "10.244.0.0/16 10.96.0.0/12", ""},
		"a narrower route":                 {bridge, "10.96.0.0/12", "10.244.1.0/25", pods},
		"a host route is no Service range": {bridge, "10.244.0.0/16", "169.254.1.1/32", services},
		"Calico":                           {calico, "", "169.254.1.1/32", both},
		"Calico, a route tells nothing":    {calico, "", "10.244.1.0/24 10.96.0.0/12", pods},
		"Calico, named":                    {calico, "10.244.0.0/16 10.96.0.0/12", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := ranged(test.address, test.ranges, test.routes)
			d := &decision{Input: w.input(), Plan: &Plan{}}
			d.findNICs()
			if have := d.unknownRanges(d.of(0), false); have != test.want {
				t.Errorf("unknown: %q, want %q", have, test.want)
			}
		})
	}
}

// ranged is a pod with an address, routes by eth0, and net1, which is asked
// to carry the default route.
func ranged(address, ranges, routes string) *world {
	w := &world{kernel: newKernel(), ranges: prefixes(ranges)}
	w.parts = []*part{{ifname: "eth0"}}
	w.nic("eth0", address)
	for _, dst := range prefixes(routes) {
		w.do(op{kind: opRoute, route: direct("eth0", dst)})
	}
	w.parts[0].claims(w, true, "eth0")
	w.before = w.snapshot()
	w.parts = append(w.parts, &part{ifname: "net1", asked: asked("10.50.1.1")})
	w.nic("net1", "10.50.1.2/24")
	w.parts[1].claims(w, true, "net1")
	return w
}

// A default route that moves while ranges are unknown is honoured with a
// warning, and refused when strict. With all ranges known it is neither.
func TestMovedDefault(t *testing.T) {
	const words = `"shop/n1" (net1) moves the IPv4 default route to net1 cluster's pod and Service ranges net1 clusterCIDRs`
	w := ranged("10.244.1.7/24", "", "")
	plan, err := Decide(w.input())
	if err != nil || len(plan.Warnings) != 1 || plan.carrier(false).NIC != "net1" {
		t.Fatalf("%+v, %v", plan, err)
	}
	contains(t, plan.Warnings[0], words)

	w.strict = true
	if _, err = Decide(w.input()); !errors.Is(err, network.Invalid) {
		t.Fatalf("strict: %v", err)
	}
	contains(t, err.Error(), words+" (routing.strict)")

	w.ranges = prefixes("10.244.0.0/16 10.96.0.0/12")
	if plan, err = Decide(w.input()); err != nil || len(plan.Warnings) != 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	// A family of the cluster's that does not move is nobody's business.
	w.ranges, w.parts[1].asked = nil, nil
	if _, err = Decide(w.input()); err != nil {
		t.Error(err)
	}
}

// What the cluster's ranges are: named ones, eth0's routes less defaults, and
// the node's DNS cache, without what is inside of others.
func TestClusterRanges(t *testing.T) {
	w := ranged("10.244.1.7/24", "10.96.0.0/12 10.244.0.0/16 2001:db8::/32", "0.0.0.0/0 10.97.0.0/16 172.16.0.0/12")
	plan, err := Decide(w.input())
	if err != nil {
		t.Fatal(err)
	}
	have := map[netip.Prefix]bool{}
	for _, r := range plan.Rules {
		if r.Priority == rangesPref {
			have[r.To] = true
		}
	}
	want := prefixes("10.96.0.0/12 10.244.0.0/16 172.16.0.0/12 169.254.20.10/32")
	for _, p := range want {
		if !have[p] {
			t.Errorf("no rule to %s: %v", p, have)
		}
	}
	if len(have) != len(want) {
		t.Errorf("rules to %v, want to %v", have, want)
	}
}
