package sriovguest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// place is where a call is killed: at its n-th step.
type place struct {
	n    int
	what string
}

// countsAs reports whether a call can be killed at what the trace shows: before
// each change below stateDir, after each delegate's start, and at its end.
func countsAs(s nettest.Step) bool {
	if s.Kind == nettest.StepStart || s.Kind == nettest.StepReap {
		return s.Done && !s.Failed
	}
	return !s.Done
}

// places runs a call unharmed and returns where it can be killed.
func (p *pod) places(verb string) []place {
	p.t.Helper()
	var out []place
	p.trace(verb, func(s nettest.Step) bool {
		if countsAs(s) {
			out = append(out, place{len(out), fmt.Sprintf("%d %s", s.Kind, strings.ReplaceAll(s.Path, p.id, "ID"))})
		}
		return false
	})
	return out
}

// kill makes the call and kills it there. It counts steps as places does.
func (p *pod) kill(verb string, at place) {
	p.t.Helper()
	n, killed := 0, false
	p.trace(verb, func(s nettest.Step) bool {
		if !countsAs(s) {
			return false
		}
		killed = n == at.n
		n++
		return killed
	})
	if !killed {
		p.t.Fatalf("%s did not come to step %d, %s", verb, at.n, at.what)
	}
}

func (p *pod) trace(verb string, see func(nettest.Step) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	_, err := p.node.TraceCNI(ctx, p.call(verb), p.in("state"), see)
	p.must(err)
}

// A kill at every step of an ADD, and of a DEL: the DEL that follows brings the
// VF home as it was, and nothing is left.
func TestKilledAnywhere(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.busy("busy", 1)
	add := m.pod("busy")
	adds := add.places("ADD")
	dels := add.places("DEL")
	if len(adds) < 15 || len(dels) < 10 {
		t.Fatalf("only %d and %d steps to be killed at", len(adds), len(dels))
	}
	before := m.snapshot()
	for i, at := range adds {
		p := m.pod("busy")
		p.kill("ADD", at)
		switch i % 3 {
		case 0:
			p.do("DEL")
		case 1:
			p.add().do("DEL")
		case 2: // the pod's namespace ends, and only then comes the DEL
			m.must(p.netns.Close())
			p.late()
		}
		if !same(t, before, m, "ADD killed at "+at.what) {
			return
		}
	}
	for i, at := range dels {
		p := m.pod("busy").add()
		p.kill("DEL", at)
		if i%2 == 0 {
			p.do("DEL")
		} else {
			m.must(p.netns.Close())
			p.late()
		}
		if !same(t, before, m, "DEL killed at "+at.what) {
			return
		}
	}
	t.Logf("killed at %d steps of ADD and %d of DEL", len(adds), len(dels))
}

// same compares, once what the kernel takes away in its own time is away.
func same(t *testing.T, before string, m *machine, when string) bool {
	t.Helper()
	after := m.snapshot()
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); after = m.snapshot() {
		time.Sleep(50 * time.Millisecond)
	}
	if after != before {
		t.Errorf("%s:", when)
		nettest.RequireSame(t, before, after)
	}
	return after == before
}
