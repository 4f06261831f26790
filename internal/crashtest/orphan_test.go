package crashtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// patience is how long a DEL waits for a delegate whose plugin was killed.
const patience = 10 * time.Second

// A delegate that outlives its plugin and never ends is killed, with what it
// started, after the patience of docs/journal.md.
func TestEndlessOrphan(t *testing.T) {
	t.Parallel()
	const slack = 30 * time.Second
	s := newSite(t, "storage, slow")
	s.recorder(t, `[{"allocate":true},{"forkGroup":"1h"},{"touch":"asleep"},{"sleep":"1h"}]`, slowDel)
	p := s.pod(t)
	want := p.snapshot(t)
	p.killADD(t, "after start of delegate 3")
	took := p.must(t, p.call("DEL"))
	if took < patience || took > patience+slack {
		t.Errorf("DEL took %s, want %s and a little", took, patience)
	}
	nettest.RequireSame(t, want, p.snapshot(t))
}

// A daemon that a delegate left behind on purpose holds what the delegate
// inherited. It stands in nobody's way, and nobody ends it.
func TestDaemonOfADelegate(t *testing.T) {
	t.Parallel()
	s := newSite(t, "slow, storage")
	s.recorder(t, `[{"fork":"1h"},{"allocate":true},{"link":true}]`, slowDel)
	for _, name := range []string{
		"after line added 1", "after create running/ID, time 3", "after line adding 2",
		"after start of delegate 3", "after end of delegate 3", "after line ready", "after print",
	} {
		t.Run("ADD killed "+name, func(t *testing.T) {
			p := s.pod(t)
			want := p.snapshot(t)
			p.killADD(t, name)
			p.requireDaemon(t)
			if took := p.must(t, p.call("DEL")); took >= patience {
				t.Errorf("DEL took %s: it waited", took)
			}
			p.requireDaemon(t)
			s.endRecorders(t)
			nettest.RequireSame(t, want, p.snapshot(t))
		})
	}
	for i, at := range s.points(t, "DEL", attached) {
		if i%6 != 0 {
			continue
		}
		t.Run("DEL killed "+at.String(), func(t *testing.T) {
			s.endRecorders(t) // those of the pods before
			p := s.pod(t)
			want := p.snapshot(t)
			attached(t, p)
			p.trace(t, "DEL", &at)
			p.requireDaemon(t)
			if took := p.must(t, p.call("DEL")); took >= patience {
				t.Errorf("DEL took %s: it waited", took)
			}
			p.requireDaemon(t)
			s.endRecorders(t)
			nettest.RequireSame(t, want, p.snapshot(t))
		})
	}
}

// requireDaemon fails the test when the recorder's child does not run.
func (p *pod) requireDaemon(t *testing.T) {
	t.Helper()
	if running := p.recorders(t); len(running["recorder-child"]) != 1 {
		t.Fatalf("the delegate left one daemon behind, and these recorders run: %v", running)
	}
}

// A DEL that comes while the delegate of a killed DEL still runs starts no
// other beside it.
func TestOrphanOfADEL(t *testing.T) {
	t.Parallel()
	s := newSite(t, "storage, slow")
	at := s.points(t, "DEL", attached)
	i := slices.IndexFunc(at, func(p point) bool { return p.String() == "after start of delegate 1" })
	if i < 0 {
		t.Fatalf("a DEL has no such point but %q", at)
	}
	s.recorder(t, `[{"allocate":true},{"link":true}]`, `[{"waitFor":"go"},{"unlink":true},{"free":true}]`)
	p := s.pod(t)
	want := p.snapshot(t)
	attached(t, p)
	p.trace(t, "DEL", &at[i])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	second, err := s.node.StartCNI(ctx, p.call("DEL"))
	if err != nil {
		t.Fatal(err)
	}
	// Long enough for a DEL that does not wait to start its first delegate.
	time.Sleep(time.Second)
	if running := s.recorders(t); len(running[s.in("bin/recorder")]) != 1 {
		t.Errorf("the second DEL did not wait for the first one's delegate; running: %v", running)
	}
	s.write(t, "recorder/go", "")
	outcome, err := second.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if e := outcome.Error(); e != nil {
		t.Fatalf("DEL: %s\nits log: %s", e, outcome.Stderr)
	}
	nettest.RequireSame(t, want, p.snapshot(t))
}
