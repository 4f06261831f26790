package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// moment is when, about a step, the plugin is killed.
type moment string

const (
	before moment = "before"
	amid   moment = "amid" // half of the line is written
	after  moment = "after"
)

// point is a place in a call where the plugin can be killed.
type point struct {
	when  moment
	step  string
	lines []string // that the journal then holds
}

func (p point) String() string { return string(p.when) + " " + p.step }

// stepName is a step in words; one that comes again gets a number elsewhere.
func stepName(step nettest.Step, container string) string {
	path := strings.ReplaceAll(step.Path, container, "ID")
	switch step.Kind {
	case nettest.StepCreate:
		return "create " + path
	case nettest.StepWrite:
		if line := lineName(step.Data); line != "" && strings.HasPrefix(path, "journal/") {
			return "line " + line
		}
		return "write " + path
	case nettest.StepRemove:
		return "remove " + path
	case nettest.StepSync:
		return "sync " + path
	case nettest.StepStart:
		return fmt.Sprintf("start of delegate %d", step.Delegate)
	case nettest.StepReap:
		return fmt.Sprintf("end of delegate %d", step.Delegate)
	}
	return "print"
}

// lineName names a journal's line: its event, and the attachment's number
// where it has one.
func lineName(line []byte) string {
	var e struct {
		Event string `json:"e"`
		Index int    `json:"i"`
	}
	_, body, _ := bytes.Cut(line, []byte(" "))
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	switch e.Event {
	case "adding", "added", "deleting", "deleted", "failed":
		return fmt.Sprintf("%s %d", e.Event, e.Index)
	}
	return e.Event
}

// run is one traced call.
type run struct {
	pod    *pod
	counts map[string]int // steps done, by name
	points []point
	lines  []string // of the journal
	target *point   // nil: the call is not killed
	killed bool
	torn   []byte // the line that the kill prevented
}

// trace makes the call. With a target, the plugin is killed there.
func (p *pod) trace(t *testing.T, verb string, target *point) *run {
	t.Helper()
	r := &run{pod: p, counts: map[string]int{}, lines: p.lines(t), target: target}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	outcome, err := p.node.TraceCNI(ctx, p.call(verb), p.in("state"), r.see)
	if err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
	if target == nil {
		if e := outcome.Error(); e != nil {
			t.Fatalf("%s: %s\nits log: %s", verb, e, outcome.Stderr)
		}
		return r
	}
	if !r.killed || outcome.Signal != syscall.SIGKILL {
		t.Fatalf("%s did not come to %q: %s", verb, target, outcome)
	}
	r.tear(t)
	if got := p.lines(t); !slices.Equal(got, target.lines) {
		t.Fatalf("killed %s, the journal holds %q, want %q", target, got, target.lines)
	}
	return r
}

func (r *run) see(step nettest.Step) bool {
	name := stepName(step, r.pod.id)
	count := r.counts[name] + 1
	if step.Done {
		r.counts[name] = count
	}
	if count > 1 {
		name = fmt.Sprintf("%s, time %d", name, count)
	}
	if r.target != nil {
		return r.reached(name, step)
	}
	if step.Done && !step.Failed {
		r.record(name, step)
	}
	return false
}

// reached says whether the call is where it is to be killed.
func (r *run) reached(name string, step nettest.Step) bool {
	if r.killed || r.target.step != name || step.Done != (r.target.when == after) {
		return false
	}
	if r.killed = true; r.target.when == amid {
		r.torn = step.Data[:len(step.Data)/2]
	}
	return true
}

// record lists the points about a step that was done.
func (r *run) record(name string, step nettest.Step) {
	add := func(when moment) {
		r.points = append(r.points, point{when: when, step: name, lines: slices.Clone(r.lines)})
	}
	// The end of a delegate is not the plugin's doing: before it is while the
	// delegate runs, which is after its start: its configuration is complete by then.
	if step.Kind != nettest.StepReap {
		add(before)
	}
	if step.Kind == nettest.StepWrite && strings.HasPrefix(step.Path, "journal/") {
		add(amid)
		r.lines = append(r.lines, lineName(step.Data))
	}
	if step.Kind == nettest.StepRemove && strings.HasPrefix(step.Path, "journal/") {
		r.lines = nil
	}
	add(after)
}

// tear completes a kill in the middle of a write: half a line is there.
func (r *run) tear(t *testing.T) {
	t.Helper()
	if r.torn == nil {
		return
	}
	f, err := os.OpenFile(r.pod.journalPath(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err = f.Write(r.torn); err != nil {
		t.Fatal(err)
	}
}

// lines returns the whole lines of the pod's journal by name.
func (p *pod) lines(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(p.journalPath())
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range bytes.Lines(content) {
		if bytes.HasSuffix(line, []byte("\n")) {
			names = append(names, lineName(line))
		}
	}
	return names
}

// points makes the call unharmed, for a pod that `prepare` has prepared, and
// lists where it can be killed.
func (s *site) points(t *testing.T, verb string, prepare func(*testing.T, *pod)) []point {
	t.Helper()
	p := s.pod(t)
	prepare(t, p)
	points := p.trace(t, verb, nil).points
	s.must(t, p.call("DEL"))
	return points
}

// addPoint returns the point of an ADD that reads so.
func (s *site) addPoint(t *testing.T, name string) point {
	t.Helper()
	i := slices.IndexFunc(s.add, func(p point) bool { return p.String() == name })
	if i < 0 {
		t.Fatalf("an ADD has no point %q but %q", name, s.add)
	}
	return s.add[i]
}

// killADD starts an ADD and kills the plugin at the point.
func (p *pod) killADD(t *testing.T, name string) {
	t.Helper()
	at := p.addPoint(t, name)
	p.trace(t, "ADD", &at)
}
