package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// writeJournal writes the journal of a pod's container.
func writeJournal(t *testing.T, dir, container, pod string) {
	t.Helper()
	store := &journal.Store{Dir: dir, Now: time.Now}
	entry, err := store.Create(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	err = entry.Begin(journal.Header{Container: container, IfName: "eth0", Netns: "/run/netns/none", Boot: "b", Pod: pod})
	_, planErr := entry.Plan(network.Attachment{List: network.List{Name: "pods"}, Reference: "pods", IfName: "eth0", Cluster: true})
	if err = errors.Join(err, planErr, entry.Ready(), entry.Close()); err != nil {
		t.Fatal(err)
	}
}

// completed is what a shell offers for the words of a command.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(append([]string{"__complete"}, words...))
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; last != ":4" { // no files
		t.Errorf("%v: directive %s", words, last)
	}
	return lines[:len(lines)-1]
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	state := []string{"--state-dir", dir}
	writeJournal(t, dir, "4c1f", "shop/web-0")
	writeJournal(t, dir, "4d2e", "shop/web-0") // an earlier sandbox
	writeJournal(t, dir, "9aaa", "infra/dns")
	writeJournal(t, dir, "9bbb", "")
	if err := os.WriteFile(filepath.Join(dir, "journal", "damaged"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{append([]string{"journal"}, append(state, "4")...), []string{"4c1f\tshop/web-0 attached", "4d2e\tshop/web-0 attached"}},
		{append([]string{"journal"}, append(state, "d")...), []string{"damaged\tdamaged"}},
		{append([]string{"journal"}, append(state, "4c1f", "")...), nil},
		{append([]string{"explain"}, append(state, "")...), []string{"infra/dns", "shop/web-0"}},
		{append([]string{"explain"}, append(state, "shop/")...), []string{"shop/web-0"}},
		{append([]string{"explain"}, append(state, "shop/web-0", "")...), nil},
		{[]string{"explain", "--state-dir", filepath.Join(dir, "none"), ""}, nil},
		{[]string{"explain", "-o", ""}, []string{"table", "json"}},
		{[]string{"doctor", "-o", ""}, []string{"table", "json"}},
		{[]string{"vfs", "--output", ""}, []string{"table", "json"}},
		{[]string{"devices", "-o", ""}, []string{"table", "json"}},
		{[]string{"install", "--runtime", ""}, []string{"containerd", "cri-o"}},
		{[]string{"doctor", "--runtime", "c"}, []string{"containerd", "cri-o"}},
		{[]string{"run", "--publish", ""}, []string{"multi", "all", "off"}},
		{[]string{"run", "--events", ""}, []string{"failures", "all", "none"}},
		{[]string{"run", "--log-level", ""}, []string{"debug", "info", "warn", "error"}},
		{[]string{"run", "--log-format", ""}, []string{"text", "json"}},
	} {
		if diff := cmp.Diff(c.want, completed(t, c.words...), cmp.Transformer("none", func(list []string) []string { return append([]string{}, list...) })); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.words, diff)
		}
	}
}

// Without --state-dir, the directory is that of the conf on the node.
func TestCompletionFindsTheDirectory(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/cni/net.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"multiplexer","stateDir":"/state","routing":{"mode":"wrong"}}]}`
	if err := os.WriteFile(filepath.Join(root, "etc/cni/net.d/00-multiplexer.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	writeJournal(t, filepath.Join(root, "state"), "4c1f", "shop/web-0")
	if diff := cmp.Diff([]string{"shop/web-0"}, completed(t, "explain", "--host-root", root, "")); diff != "" {
		t.Error(diff)
	}
}

// Every shell's script is there.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var out bytes.Buffer
		cmd := command()
		cmd.SetArgs([]string{"completion", shell})
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "__complete") {
			t.Errorf("%s: %v, %d bytes", shell, err, out.Len())
		}
	}
}
