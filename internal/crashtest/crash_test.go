// Package crashtest kills the plugin at every point of its work and looks
// whether anything is left behind (docs/journal.md).
package crashtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// series kills one verb at its points, and then does what has to leave
// nothing behind.
type series struct {
	name    string
	verb    string
	prepare func(*testing.T, *pod) // what comes before the call
	every   int                    // 1: each point, 3: every third
	then    func(*testing.T, *pod) // what comes after the kill
	absent  bool                   // `then` removes the pod's namespace
}

func fresh(*testing.T, *pod) {}

func attached(t *testing.T, p *pod) {
	t.Helper()
	p.must(t, p.call("ADD"))
}

// orphaned leaves a delegate that has its effect after its plugin's death.
func orphaned(t *testing.T, p *pod) {
	t.Helper()
	p.killADD(t, "after start of delegate 3")
}

func del(t *testing.T, p *pod) {
	t.Helper()
	p.must(t, p.call("DEL"))
}

func allSeries() []series {
	return []series{
		{name: "ADD killed, then DEL", verb: "ADD", prepare: fresh, every: 1, then: del},
		{name: "DEL killed, then DEL", verb: "DEL", prepare: attached, every: 1, then: del},
		{name: "ADD and DEL killed, then DEL", verb: "DEL", prepare: orphaned, every: 3, then: del},
		{name: "ADD killed, then ADD and DEL", verb: "ADD", prepare: fresh, every: 3, then: func(t *testing.T, p *pod) {
			p.must(t, p.call("ADD"))
			del(t, p)
		}},
		{name: "ADD killed, then the namespace is gone, then DEL", verb: "ADD", prepare: fresh, every: 3, absent: true, then: func(t *testing.T, p *pod) {
			if err := p.netns.Close(); err != nil {
				t.Fatal(err)
			}
			p.must(t, p.delNoNetns())
		}},
		{name: "ADD killed, then GC", verb: "ADD", prepare: fresh, every: 6, then: func(t *testing.T, p *pod) { p.must(t, p.gc(t)) }},
		{name: "DEL killed, then GC", verb: "DEL", prepare: attached, every: 6, then: func(t *testing.T, p *pod) { p.must(t, p.gc(t)) }},
	}
}

func TestKilled(t *testing.T) {
	t.Parallel()
	met := &states{names: map[string]bool{}}
	t.Run("series", func(t *testing.T) {
		for _, s := range allSeries() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.run(t, met)
			})
		}
	})
	if t.Failed() || met.partial() {
		return
	}
	for _, state := range tableStates(t) {
		if !met.names[state] {
			t.Errorf("no kill left %q in the journal, which docs/journal.md has in its table", state)
		}
	}
}

func (s series) run(t *testing.T, met *states) {
	site := newSite(t, "storage, slow")
	points := site.points(t, s.verb, s.prepare)
	start := time.Now()
	runs := (len(points) + s.every - 1) / s.every
	met.expect(runs)
	const enough = 10
	failed := 0
	for i := 0; i < len(points); i += s.every {
		if !t.Run(points[i].String(), func(t *testing.T) { s.kill(t, site.pod(t), points[i], met) }) {
			failed++
		}
		if failed == enough {
			t.Fatalf("%d points failed; the rest is left out", failed)
		}
	}
	t.Logf("%d of %d points in %s", runs, len(points), time.Since(start).Round(time.Millisecond))
}

func (s series) kill(t *testing.T, p *pod, at point, met *states) {
	t.Cleanup(func() {
		if t.Failed() {
			p.endRecorders(t) // no other point is to find them
		}
	})
	want := p.snapshot(t)
	s.prepare(t, p)
	p.trace(t, s.verb, &at)
	met.add(p.journal(t))
	s.then(t, p)
	if s.absent {
		p.requireWithoutNetns(t, want)
		return
	}
	nettest.RequireSame(t, want, p.snapshot(t))
}

// requireWithoutNetns compares all but the pod's namespace, which is gone. The
// kernel takes its links, and their peers in the node, away in its own time.
func (p *pod) requireWithoutNetns(t *testing.T, want string) {
	t.Helper()
	want = withoutPod(want)
	got := withoutPod(p.snapshot(t))
	for end := time.Now().Add(time.Minute); got != want && time.Now().Before(end); got = withoutPod(p.snapshot(t)) {
		time.Sleep(20 * time.Millisecond)
	}
	nettest.RequireSame(t, want, got)
}

// withoutPod leaves the lines of the pod's namespace out.
func withoutPod(snapshot string) string {
	lines := strings.Split(snapshot, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(strings.TrimPrefix(line, "== "), "pod")
	}), "\n")
}

// states collects what the kills left in the journals.
type states struct {
	mu     sync.Mutex
	names  map[string]bool
	series int // that were run
	kills  int // minus the points that were listed
}

func (s *states) expect(points int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.series++
	s.kills -= points
}

// partial reports whether some of the points were left out (go test -run).
func (s *states) partial() bool { return s.series < len(allSeries()) || s.kills < 0 }

func (s *states) add(c *journal.Contents) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
	if c == nil {
		return
	}
	if !c.Usable() {
		s.names["no open line"] = true
	}
	for i := range c.Records {
		s.names[string(c.Records[i].Step)] = true
	}
}

// tableStates reads the states from the table of docs/journal.md.
func tableStates(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/journal.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "| found in the journal | release does |\n|---|---|\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	var names []string
	for row := range strings.SplitSeq(table, "\n") {
		cell := regexp.MustCompile(`^\| ([^|(]+)`).FindStringSubmatch(row)
		if cell == nil {
			t.Fatalf("docs/journal.md: %q is no row of the table of states", row)
		}
		names = append(names, strings.TrimSpace(strings.ReplaceAll(cell[1], "`", "")))
	}
	want := []string{"no open line", "planned", "adding", "added", "deleting", "deleted"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("docs/journal.md: the states of the table (-known here +there):\n%s", diff)
	}
	return names
}
