package routetest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// After DEL the namespace is as before ADD, and ADD in the same one works.
func TestNothingIsLeftInAKeptNamespace(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.newPod(t, moved(w.red.gateway().all(), "red-default", "blue-default", "red-halves"))
		strictPod(t, p)
		before := p.inside(t)
		for range 2 {
			p.add(t)
			p.del(t)
			nettest.RequireSame(t, before, p.inside(t))
		}
		p.add(t)
		p.show(t)
		p.reachService(t)
		p.del(t)
	})
}

// An ADD that fails at its last network gives back what the ones before it
// changed.
func TestNothingIsLeftAfterAFailedAdd(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		w.writeNetwork(t, "net.d", "broken", obj{"type": "macvlan", "master": "absent"})
		p := w.newPod(t, moved(w.red.gateway().all(), "red-default", "broken"))
		strictPod(t, p)
		before := p.inside(t)
		if e := p.call(t, "ADD").Error(); e == nil {
			t.Fatal("ADD succeeded")
		}
		nettest.RequireSame(t, before, p.inside(t))
		p.del(t)
		nettest.RequireSame(t, before, p.inside(t))
	})
}
