package multiplexer_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// DEL replays what ADD used, whatever the files say by then.
func TestDelReplays(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	before := f.snapshot()
	f.networks(`[{"name":"a","cni-args":{"x":1}}]`).ok("ADD", "c1")
	f.must(os.RemoveAll(f.file("conf")))
	f.must(os.RemoveAll(f.file("net.d")))
	f.annotations, f.args = nil, ""
	f.config = obj{"clusterNetwork": f.file("gone")}
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.snapshot())
	add, del := f.called("ADD"), f.called("DEL")
	for i, c := range del {
		was := add[len(add)-1-i]
		got, want := f.conf(c), f.conf(was)
		if got["prevResult"] == nil {
			t.Errorf("%s got no prevResult", c.Name)
		}
		delete(got, "prevResult")
		f.want(got, want)
		f.want([]string{c.Args, c.IfName, c.Netns, c.ContainerID}, []string{was.Args, was.IfName, was.Netns, was.ContainerID})
	}
}

func TestDelSucceedsWhenThereIsNothing(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.ok("DEL", "never")
	f.want(f.calls(), []string{"DEL cluster eth0"}) // a pod from before the installation
	f.networks("a").ok("ADD", "c1")
	f.ok("DEL", "c1")
	f.ok("DEL", "c1")
	f.must(os.Remove(f.file("net.d/10-cluster.conflist")))
	f.ok("DEL", "c1")
}

// What the runtime kept of a container without a journal is at the version of
// our conf. The cluster network's plugins get it at theirs, or they would
// refuse every DEL: flannel's list is 0.3.1.
func TestDelConvertsWhatTheRuntimeKept(t *testing.T) {
	for version, want := range map[string]any{
		"0.3.1": nil,
		"0.4.0": obj{"cniVersion": "0.4.0", "dns": obj{}, "ips": []any{obj{"version": "4", "address": "10.0.0.2/24"}}},
		"1.0.0": obj{"cniVersion": "1.0.0", "ips": []any{obj{"address": "10.0.0.2/24"}}},
	} {
		f := newFixture(t)
		list := f.list("cluster", "10.0.0.0/24", obj{"CHECK": []any{obj{"sleep": "0s"}}})
		list["cniVersion"] = version
		f.write("net.d/10-cluster.conflist", list)
		f.config = obj{"prevResult": obj{"cniVersion": "1.1.0", "ips": []any{obj{"address": "10.0.0.2/24"}}}}
		f.ok("DEL", "old")
		f.want(f.conf(f.called("DEL")[0])["prevResult"], want)
		if version == "0.3.1" {
			continue // it knows no CHECK
		}
		f.ok("CHECK", "old")
		f.want(f.conf(f.called("CHECK")[0])["prevResult"], want)
	}
}

func TestDelWithoutNamespace(t *testing.T) {
	for name, lose := range map[string]func(f *fixture){
		"CNI_NETNS empty":          func(f *fixture) { f.netns = "" },
		"path gone":                func(f *fixture) { f.netns = "/run/netns/no-such" },
		"namespace gone":           func(f *fixture) { f.must(f.pod.Close()) },
		"gone and empty":           func(f *fixture) { f.must(f.pod.Close()); f.netns = "" },
		"another one in its place": func(f *fixture) { f.must(f.pod.Replace()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.define("a")
			f.networks("a").ok("ADD", "c1")
			was := f.netns
			lose(f)
			f.ok("DEL", "c1")
			alive := name == "CNI_NETNS empty" || name == "path gone"
			for _, c := range f.called("DEL") {
				// A namespace that is still ADD's is handed on, any other is not.
				if want := map[bool]string{true: was, false: ""}[alive]; c.Netns != want {
					t.Errorf("%s got CNI_NETNS %q, want %q", c.Name, c.Netns, want)
				}
			}
			leases, err := os.ReadDir(f.file("rec/leases/a"))
			f.must(err)
			f.want(len(leases), 0)
		})
	}
}

// pause is how long later calls leave alone what failed once.
const pause = 2 * time.Second

// One failure stops no other; what failed is kept and tried again by later
// calls, without a DEL of its own.
func TestDelGoesOnAndKeeps(t *testing.T) {
	f := newFixture(t)
	f.define("a", "z")
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}},
		"DEL": []any{obj{"failOnce": obj{"code": 11, "msg": "daemon not found: no such file or directory"}}, obj{"free": true}},
	}))
	before := f.snapshot()
	f.networks("a,b,z").ok("ADD", "c1")
	f.forget()
	start := time.Now()
	out := f.call("DEL", "c1", nil)
	f.refused(out, 11, `"b"`, "daemon")
	for _, taken := range []string{"not found", "no such file or directory"} {
		if strings.Contains(string(out.Stdout), taken) {
			t.Errorf("go-cni takes %q for success: %s", taken, out.Stdout)
		}
	}
	f.want(f.calls(), []string{"DEL z net3", "DEL b net2", "DEL a net1", "DEL cluster eth0"})
	f.forget()
	// Backoff: not at once ...
	f.annotations = nil
	f.ok("STATUS", "")
	if time.Since(start) < pause {
		f.want(slices.Contains(f.calls(), "DEL b net2"), false)
	}
	// ... but at some later call of any verb, and only what failed.
	deadline := time.Now().Add(30 * time.Second)
	for !slices.Contains(f.calls(), "DEL b net2") && time.Now().Before(deadline) {
		time.Sleep(200 * time.Millisecond)
		f.ok("STATUS", "")
	}
	f.want(slices.DeleteFunc(f.calls(), func(c string) bool { return strings.HasPrefix(c, "STATUS") }), []string{"DEL b net2"})
	nettest.RequireSame(t, before, f.snapshot())
	f.ok("DEL", "c1")
}

// The runtime's own retry does not wait for the backoff.
func TestDelRetriedByTheRuntime(t *testing.T) {
	f := newFixture(t)
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}},
		"DEL": []any{obj{"failOnce": obj{"code": 999, "msg": "busy"}}, obj{"free": true}},
	}))
	before := f.snapshot()
	f.networks("b").ok("ADD", "c1")
	f.refused(f.call("DEL", "c1", nil), 999, "busy")
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.snapshot())
}

// A second ADD for a container releases what the first attached.
func TestSecondAdd(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	before := f.snapshot()
	f.networks("a,b").ok("ADD", "c1")
	f.forget()
	f.networks("b").ok("ADD", "c1")
	f.want(f.calls(), []string{"DEL b net2", "DEL a net1", "DEL cluster eth0", "ADD cluster eth0", "ADD b net1"})
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.snapshot())
}

// Undo that fails is kept for DEL, and said.
func TestUndoFails(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}, obj{"error": obj{"code": 5, "msg": "cause"}}},
		"DEL": []any{obj{"failOnce": obj{"code": 7, "msg": "consequence"}}, obj{"free": true}},
	}))
	before := f.snapshot()
	f.refused(f.networks("a,b").call("ADD", "c1", nil), 5, "cause", "undoing it failed too", "consequence")
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.snapshot())
}

func TestDamagedJournal(t *testing.T) {
	for name, damage := range map[string]func(old []byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"garbage":     func([]byte) []byte { return []byte("\x00\xff not a journal\n\n{}\n") },
		"torn first":  func(old []byte) []byte { return old[:20] },
		"first bad":   func(old []byte) []byte { return append([]byte("xx"), old...) },
		"torn last":   func(old []byte) []byte { return old[:len(old)-5] },
		"torn result": func(old []byte) []byte { return old[:bytes.LastIndex(old, []byte(`"e":"added"`))+30] },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.define("a")
			before := f.snapshot()
			f.networks("a").ok("ADD", "c1")
			path := f.file("state/journal/c1")
			old, err := os.ReadFile(path)
			f.must(err)
			f.must(os.WriteFile(path, damage(old), 0o600))
			if name == "first bad" || strings.HasPrefix(name, "torn") && name != "torn first" {
				f.refused(f.call("CHECK", "c1", nil), 999)
			} else {
				f.refused(f.call("CHECK", "c1", nil), 5, "journal", "c1", f.file("state"))
			}
			f.ok("DEL", "c1")
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
	t.Run("later format", func(t *testing.T) {
		f := newFixture(t)
		line := `{"e":"open","v":99,"t":"2026-01-01T00:00:00Z"}`
		f.write("state/journal/c1", fmt.Sprintf("%08x %s\n", crc32.ChecksumIEEE([]byte(line)), line))
		f.refused(f.call("DEL", "c1", nil), 1, "format 99", "upgrade", "journal/c1")
	})
}

// What stood in the cluster network's place is the annotation's to say, where
// no journal does; what it names may be gone.
func TestEmptyJournalOfADefaultNetwork(t *testing.T) {
	f := newFixture(t)
	f.write("conf/shop/own.conflist", f.list("own", "10.60.0.0/24", nil))
	f.annotations = map[string]string{"v1.multus-cni.io/default-network": "shop/own"}
	before := f.snapshot()
	f.ok("ADD", "c1")
	f.must(os.Truncate(f.file("state/journal/c1"), 0))
	f.forget()
	f.ok("DEL", "c1")
	f.want(f.calls(), []string{"DEL own eth0"})
	f.want(f.leases("own"), 0)
	nettest.RequireSame(t, before, f.snapshot())
	f.ok("ADD", "c1")
	f.must(os.Truncate(f.file("state/journal/c1"), 0))
	f.must(os.Remove(f.file("conf/shop/own.conflist")))
	f.forget()
	out := f.ok("DEL", "c1")
	f.want(f.calls(), []string{"DEL cluster eth0"})
	if !strings.Contains(string(out.Stderr), "in the cluster network's place cannot be resolved") {
		t.Errorf("standard error: %s", out.Stderr)
	}
}

// A network that hangs leaves time for the others, without a journal too.
func TestEmptyJournalAndANetworkThatHangs(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t)
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{"DEL": []any{obj{"sleep": "1h"}}}))
	f.config = obj{"timeout": obj{"del": "12s"}}
	f.networks("b").ok("ADD", "c1")
	f.must(os.Truncate(f.file("state/journal/c1"), 0))
	f.forget()
	f.refused(f.call("DEL", "c1", nil), 5, `"b"`, "out of time")
	f.want(f.calls(), []string{"DEL b net1", "DEL cluster eth0"})
	f.want(f.leases("cluster"), 0)
	if _, err := os.Stat(f.file("state/journal/c1")); err != nil {
		t.Errorf("nothing is left for a later try: %v", err)
	}
}

func TestStateDirectoryUnusable(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.must(os.RemoveAll(f.file("state")))
	f.write("state", "a file where a directory should be")
	f.refused(f.networks("a").call("ADD", "c1", nil), 5, f.file("state"), "stateDir")
	f.want(f.calls(), []string(nil))
}

func TestLeftoverMarks(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	before := f.snapshot()
	mark := func(c string) { f.write("state/release/"+c, "") }
	f.networks("a").ok("ADD", "live")
	f.forget()
	// A wrong suspicion is dropped: the namespace is there.
	mark("live")
	mark("unknown")
	f.ok("DEL", "other")
	f.want(f.calls(), []string{"DEL cluster eth0"})
	names, err := os.ReadDir(f.file("state/release"))
	f.must(err)
	f.want(len(names), 0)
	// A right one is released, by a call about another container.
	f.must(f.pod.Replace())
	f.forget()
	mark("live")
	f.ok("DEL", "other")
	f.want(f.calls(), []string{"DEL cluster eth0", "DEL a net1", "DEL cluster eth0"})
	nettest.RequireSame(t, before, f.snapshot())
}

func TestFiftyPodsAtOnce(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	f.networks("a,b")
	before := f.snapshot()
	each := func(verb string) {
		errs := make(chan string, 50)
		for i := range 50 {
			request := f.request(verb, fmt.Sprintf("c%d", i), f.stdin(nil))
			go func() {
				out, err := f.node.CNI(f.Context(), request)
				errs <- fmt.Sprint(err, out.Error())
			}()
		}
		for range 50 {
			if e := <-errs; e != fmt.Sprint(error(nil), (*nettest.CNIError)(nil)) {
				t.Errorf("%s: %s", verb, e)
			}
		}
	}
	each("ADD")
	addresses := map[string]bool{}
	for _, network := range []string{"cluster", "a", "b"} {
		leases, err := os.ReadDir(f.file("rec/leases/" + network))
		f.must(err)
		f.want(len(leases), 50)
		for _, l := range leases {
			addr, rerr := os.ReadFile(f.file("rec/leases/" + network + "/" + l.Name()))
			f.must(rerr)
			addresses[string(addr)] = true
		}
	}
	f.want(len(addresses), 150)
	each("DEL")
	nettest.RequireSame(t, before, f.snapshot())
}
