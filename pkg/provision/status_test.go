package provision

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// withStatus returns a provisioner whose only PF has a reason, and its log.
func withStatus(stateDir, reason string) (*Provisioner, *bytes.Buffer) {
	said := &bytes.Buffer{}
	p := &Provisioner{Options: Options{StateDir: stateDir, Log: slog.New(slog.NewTextHandler(said, nil))}}
	p.targets = []*target{{status: PFStatus{Name: "ens1", State: Failed, Reason: reason}}}
	return p, said
}

// A status that could not be written is written later, also when it stays the
// same; it is said once.
func TestStatusIsWrittenLater(t *testing.T) {
	p, said := withStatus(filepath.Join(t.TempDir(), "state"), "why")
	for i, want := range []bool{true, false, false} {
		if got := p.writeStatus(); got != want {
			t.Errorf("try %d: changed %v", i, got)
		}
	}
	if n := strings.Count(said.String(), "cannot be written"); n != 1 {
		t.Errorf("said %d times: %s", n, said)
	}
	if err := os.Mkdir(p.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if p.writeStatus() {
		t.Error("nothing has changed")
	}
	if all, err := ReadStatus(p.StateDir); err != nil || len(all) != 1 || all[0].Reason != "why" {
		t.Errorf("%+v, %v", all, err)
	}
}

// Two agents write at once, in an upgrade: the file is whole at any time.
func TestStatusOfTwoAgents(t *testing.T) {
	dir := t.TempDir()
	var writing sync.WaitGroup
	for _, reason := range []string{"a", strings.Repeat("b", 10_000)} {
		p, said := withStatus(dir, reason)
		if !p.writeStatus() {
			t.Fatal("nothing is written")
		}
		writing.Go(func() {
			for range 300 {
				p.written = false
				p.writeStatus()
			}
			if said.Len() > 0 {
				t.Error(said)
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	for open := true; open; {
		select {
		case <-written:
			open = false
		default:
		}
		if all, err := ReadStatus(dir); err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}
