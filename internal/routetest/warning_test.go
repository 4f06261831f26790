package routetest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A default that moves while nobody said where pods and Services are may take
// their traffic along: the pod gets it, with a warning that names the remedy.
// With routing.strict it is refused, and nothing is left.
func TestMovedDefaultNeedsKnownRanges(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		networks := moved(w.red.gateway().all(), "red-default")
		strictly := obj{"mode": "guard", "strict": true}
		for name, known := range map[string]any{
			"nothing known":  nil,
			"pods alone":     podRange().all(),
			"Services alone": serviceRange().all(), // eth0's own subnet is a slice of the pods'
		} {
			t.Run(name, func(t *testing.T) {
				p := w.attach(t, networks, obj{"clusterCIDRs": known})
				p.show(t)
				if !warns(p.stderr, "clusterCIDRs", "net1") {
					t.Errorf("no warning names clusterCIDRs:\n%s", p.stderr)
				}
				p.reachOutside(t, variant{v4: []string{"net1"}, v6: []string{"net1"}})
			})
			t.Run(name+", strict", func(t *testing.T) {
				p := w.newPod(t, networks, obj{"clusterCIDRs": known, "routing": strictly})
				before := p.snapshot(t)
				p.refused(t, "clusterCIDRs")
				nettest.RequireSame(t, before, p.snapshot(t))
			})
		}
		t.Run("all known, strict", func(t *testing.T) {
			p := w.attach(t, networks, obj{"routing": strictly})
			if warns(p.stderr, "clusterCIDRs") {
				t.Errorf("a warning without a reason:\n%s", p.stderr)
			}
		})
	})
}

// A family that the cluster network has no default in is carried by the first
// attachment that has one, and that is said.
func TestFamilyWithoutADefaultIsLent(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.attach(t, "red-default, blue-default")
		if lent := !w.shape.has(v4); warns(p.stderr, "IPv4", "default", "net1") != lent {
			t.Errorf("a warning says that net1 carries IPv4: %v, want %v\n%s", !lent, lent, p.stderr)
		}
	})
}
