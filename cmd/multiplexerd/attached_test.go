package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// What is no file in journal/ is nobody's journal: it is named, with what to do,
// and --force does not wait for it.
func TestAttachedAndADirectoryAmongTheJournals(t *testing.T) {
	n := newTree(t)
	if err := os.MkdirAll(n.at("/s/journal/lost"), 0o700); err != nil {
		t.Fatal(err)
	}
	nodes := attached{store: &journal.Store{Dir: n.at("/s"), Now: time.Now}}
	pods, err := nodes.pods(t.Context())
	if err != nil || len(pods) != 1 {
		t.Fatalf("%v, %v", pods, err)
	}
	said := pods[0].String()
	for _, word := range []string{n.at("/s/journal/lost"), "is no regular file", "remove it"} {
		if !strings.Contains(said, word) {
			t.Errorf("it lacks %q: %s", word, said)
		}
	}
	if strings.Contains(said, "free space") || strings.Contains(said, "its journal") {
		t.Errorf("it is taken for a journal: %s", said)
	}
	var passed []string
	nodes.multus.passed = func(id, why string) { passed = append(passed, id+": "+why) }
	if pods, err = nodes.pods(t.Context()); err != nil || len(pods) != 0 {
		t.Errorf("%v, %v", pods, err)
	}
	if len(passed) != 1 || !strings.Contains(passed[0], "remove it") {
		t.Errorf("%q", passed)
	}
}

func TestUninstallAndADirectoryAmongTheJournals(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	if err := os.MkdirAll(n.at("/var/lib/cni/multiplexer/journal/lost"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := n.run("uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout", "1s")
	if err == nil || !strings.Contains(err.Error(), "journal/lost is no regular file") || !strings.Contains(err.Error(), "remove it") || strings.Contains(err.Error(), "free space") {
		t.Errorf("%v", err)
	}
	out, stderr, err := n.run("uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout", "1m", "--force")
	if err != nil || !strings.Contains(stderr, "journal/lost is no regular file") {
		t.Errorf("%v: %s%s", err, out, stderr)
	}
}
