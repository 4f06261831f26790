package multiplexer_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// flip damages one line of a container's journal: the n-th with a word.
func (f *fixture) flip(container, word string, n int) {
	f.Helper()
	path := f.file("state/journal/" + container)
	lines, err := os.ReadFile(path)
	f.must(err)
	at := 0
	for range n {
		at += bytes.Index(lines[at:], []byte(word)) + 1
	}
	lines[at] ^= 0x01
	f.must(os.WriteFile(path, lines, 0o600))
}

func (f *fixture) valid(containers ...string) obj {
	list := []any{}
	for _, c := range containers {
		list = append(list, obj{"containerID": c, "ifname": "eth0"})
	}
	return obj{"cni.dev/valid-attachments": list}
}

// collecting defines network a so that its plugin is asked to collect.
func (f *fixture) collecting() obj {
	conf := f.list("a", "10.50.0.0/24", nil)
	conf["cniVersion"] = "1.1.0"
	f.write("conf/a.conflist", conf)
	return conf
}

// Damage hides what is in use: nothing is asked to collect, and it is said.
func TestGCWithADamagedJournal(t *testing.T) {
	for line, word := range map[string]string{"plan": `"e":"plan"`, "open": `"e":"open"`} {
		f := newFixture(t)
		f.collecting()
		f.networks("a").ok("ADD", "c1")
		f.ok("ADD", "c2")
		f.flip("c1", word, map[string]int{"plan": 2, "open": 1}[line])
		f.refused(f.call("GC", "", f.valid("c1", "c2")), 5, "c1", "damaged")
		f.want(f.leases("a"), 2)
		// Nor is a damaged container released for not being listed.
		f.refused(f.call("GC", "", f.valid("c2")), 5, "c1", "damaged")
		f.want(f.leases("a"), 2)
		f.must(os.WriteFile(f.file("state/release/c1"), nil, 0o600))
		f.ok("STATUS", "")
		f.want(f.leases("a"), 2)
	}
}

// disableGC holds from the moment it is written, for pods attached before too.
func TestDisableGCLater(t *testing.T) {
	f := newFixture(t)
	conf := f.collecting()
	f.networks("a").ok("ADD", "c1")
	conf["disableGC"] = true
	f.write("conf/a.conflist", conf)
	if e := f.call("GC", "", f.valid("c1")).Error(); e != nil {
		t.Fatal(e)
	}
	for _, c := range f.called("GC") {
		if c.Name == "a" {
			t.Error("a network with disableGC was asked to collect")
		}
	}
}

// A pod that comes while GC is at work is in use when networks are asked.
func TestGCSeesWhatCameMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.collecting()
	f.write("conf/slow.conflist", f.list("slow", "10.51.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"touch": "deleting"}, obj{"waitFor": "go"}, obj{"free": true}},
	}))
	f.networks("slow").ok("ADD", "stale")
	f.networks("a").ok("ADD", "c1")
	request := f.request("GC", "", f.stdin(f.valid("c1")))
	done := make(chan error, 1)
	go func() {
		_, err := f.node.CNI(t.Context(), request)
		done <- err
	}()
	for giveUp := time.Now().Add(20 * time.Second); time.Now().Before(giveUp); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(f.file("rec/deleting")); err == nil {
			break
		}
	}
	f.ok("ADD", "late") // not listed: it was not there when GC was called
	f.write("rec/go", "")
	f.must(<-done)
	leases, err := filepath.Glob(f.file("rec/leases/a/c1-*"))
	f.must(err)
	f.want(len(leases), 1)
}

// One try is one failure, however many attachments fail in it.
func TestBackoffCountsTries(t *testing.T) {
	f := newFixture(t)
	f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", obj{"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"error": obj{"code": 999, "msg": "stuck"}}}}))
	f.networks("a,a,a,a").ok("ADD", "c1")
	for tries := 1; tries < 3; tries++ {
		f.refused(f.call("DEL", "c1", nil), 999, "stuck")
		contents, err := (&journal.Store{Dir: f.file("state"), Now: time.Now}).Read("c1")
		f.must(err)
		f.want(contents.Failures, tries)
	}
}

// A bad result in the middle of a chain is the fault of who printed it.
func TestBadResultInAChain(t *testing.T) {
	for _, result := range []string{`{"cniVersion":"9.9.9"}`, `{"cniVersion":"1.0.0","ips":[{"address":5}]}`} {
		f := newFixture(t)
		first := f.plugin("10.50.0.0/24", obj{"ADD": []any{obj{"allocate": true}, obj{"stdout": result}}})
		f.write("conf/a.conflist", obj{"cniVersion": "1.0.0", "name": "a", "plugins": []any{first, obj{"type": "tuning"}}})
		f.refused(f.networks("a").call("ADD", "c1", nil), 6, `plugin "recorder"`, "result")
		f.want(f.leases("a"), 0)
	}
}

// The runtime holds our standard error open and does not read it.
func TestStderrNotRead(t *testing.T) {
	f := newFixture(t)
	bin := t.TempDir()
	f.path = append(f.path, bin)
	loud := "#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' x >&2\n[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\"}' || true\n"
	f.must(os.WriteFile(filepath.Join(bin, "loud"), []byte(loud), 0o755))
	f.write("conf/a.conflist", obj{"cniVersion": "1.0.0", "name": "a", "plugins": []any{obj{"type": "loud"}, obj{"type": "loud"}}})
	call := f.networks("a").request("ADD", "c1", f.stdin(nil))
	read, write, err := os.Pipe()
	f.must(err)
	defer read.Close()
	cmd := exec.Command(call.Bin)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(call.Stdin)), write
	cmd.Env = []string{
		"CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=" + call.Netns, "CNI_IFNAME=eth0",
		"CNI_ARGS=" + call.Args, "CNI_PATH=" + strings.Join(call.Path, ":"), "PATH=" + os.Getenv("PATH"),
	}
	f.must(f.node.Start(cmd))
	f.must(write.Close())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case waitErr := <-ended:
		f.must(waitErr)
	case <-time.After(20 * time.Second):
		f.must(cmd.Process.Kill())
		t.Fatal("ADD waits for somebody to read its standard error")
	}
	f.want(slices.Contains(f.calls(), "ADD cluster eth0"), true)
}
