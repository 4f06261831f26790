package multiplexer_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What a plugin gets is what its author wrote, number for number.
func TestUnknownKeysVerbatim(t *testing.T) {
	f := newFixture(t)
	f.write("conf/a.conflist", `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"recorder","dir":"`+f.file("rec")+`",
		"big":12345678901234567890,"float":1e400,"precise":0.1000000000000000055,"nested":{"id":9007199254740993},
		"capabilities":{"mac":true},"runtimeConfig":{"mac":"forged"},"prevResult":{"forged":1},"cni.dev/x":1}]}`)
	f.networks("a").ok("ADD", "c1")
	f.ok("DEL", "c1")
	for _, c := range []nettest.Call{f.called("ADD")[1], f.called("DEL")[0]} {
		for _, want := range []string{`"big":12345678901234567890`, `"float":1e400`, `"precise":0.1000000000000000055`, `"nested":{"id":9007199254740993}`} {
			if !strings.Contains(c.Stdin, want) {
				t.Errorf("%s: %s is lost in %s", c.Verb, want, c.Stdin)
			}
		}
		for _, unwanted := range []string{"capabilities", "forged", "cni.dev", "multiplexer/index"} {
			if strings.Contains(c.Stdin, unwanted) {
				t.Errorf("%s: %s must not be passed on: %s", c.Verb, unwanted, c.Stdin)
			}
		}
	}
}

func TestStderrIsPassedOn(t *testing.T) {
	f := newFixture(t)
	f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", obj{"ADD": []any{obj{"stderr": "a hint from the plugin\n"}, obj{"allocate": true}}}))
	if out := f.networks("a").ok("ADD", "c1"); !strings.Contains(string(out.Stderr), "a hint from the plugin") {
		t.Errorf("standard error: %q", out.Stderr)
	}
}

// A delegate that never stops printing fills neither the log nor memory.
func TestFlood(t *testing.T) {
	f := newFixture(t)
	bin := t.TempDir()
	f.path = append(f.path, bin)
	for name, script := range map[string]string{
		"loud": `head -c 50000000 /dev/zero | tr '\0' x >&2; echo '{"code": 7, "msg": "done"}'; exit 1`,
		"long": `head -c 50000000 /dev/zero | tr '\0' x`,
	} {
		f.must(os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n"+script+"\n"), 0o755))
		f.write("conf/"+name+".conf", obj{"cniVersion": "1.0.0", "name": name, "type": name})
	}
	out := f.networks("loud").call("ADD", "c1", nil)
	f.refused(out, 7, "done")
	if len(out.Stderr) > 100_000 {
		t.Errorf("%d bytes on standard error", len(out.Stderr))
	}
	f.refused(f.networks("long").call("ADD", "c2", nil), 6, "more than 4194304 bytes")
}

// A delegate's own error reaches the runtime with its own code.
func TestDelegateErrors(t *testing.T) {
	for name, c := range map[string]struct {
		step  obj
		code  uint
		words []string
	}{
		"try again":       {obj{"error": obj{"code": 11, "msg": "not yet"}}, 11, []string{"not yet"}},
		"own code":        {obj{"error": obj{"code": 137, "msg": "own", "details": "more"}}, 137, []string{"own"}},
		"no code":         {obj{"error": obj{"msg": "vague"}}, 999, []string{"vague"}},
		"garbage":         {obj{"stdout": "Segmentation fault\n"}, 6, []string{"Segmentation fault"}},
		"nothing":         {obj{"stdout": ""}, 6, []string{"no CNI result"}},
		"not a result":    {obj{"stdout": `["x"]`}, 6, []string{"no CNI result"}},
		"unknown version": {obj{"stdout": `{"cniVersion":"7.0.0"}`}, 6, nil},
		"index too high":  {obj{"stdout": `{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","interface":3}]}`}, 6, []string{"ips[0].interface is 3"}},
		"crash":           {obj{"signal": 9}, 999, []string{"signal: killed"}},
		"exit":            {obj{"exit": 3}, 999, []string{"exit status 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.define("a", "b", "z")
			f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{"ADD": []any{obj{"allocate": true}, c.step}}))
			before := f.snapshot()
			out := f.networks("a,b,z").call("ADD", "c1", nil)
			f.refused(out, c.code, append(c.words, `"b"`, "net2", "b.conflist")...)
			nettest.RequireSame(t, before, f.snapshot())
			// The failed one is torn down too, the next is never attempted.
			f.want(f.calls(), []string{"ADD cluster eth0", "ADD a net1", "ADD b net2", "DEL b net2", "DEL a net1", "DEL cluster eth0"})
		})
	}
}

// An executable that is being written is waited for.
func TestTextFileBusy(t *testing.T) {
	f := newFixture(t)
	dir := nettest.RecorderAs(t, "busy")
	f.path = append(f.path, dir)
	conf := f.list("a", "10.50.0.0/24", nil)
	conf["plugins"].([]any)[0].(obj)["type"] = "busy"
	f.write("conf/a.conflist", conf)
	open, err := os.OpenFile(filepath.Join(dir, "busy"), os.O_WRONLY, 0)
	if err != nil {
		// Hard-linked to a binary that runs elsewhere: use a copy of its own.
		data, readErr := os.ReadFile(filepath.Join(dir, "busy"))
		f.must(readErr)
		f.must(os.Remove(filepath.Join(dir, "busy")))
		f.must(os.WriteFile(filepath.Join(dir, "busy"), data, 0o755))
		open, err = os.OpenFile(filepath.Join(dir, "busy"), os.O_WRONLY, 0)
	}
	f.must(err)
	closed := make(chan error, 1)
	time.AfterFunc(500*time.Millisecond, func() { closed <- open.Close() })
	f.networks("a").ok("ADD", "c1")
	f.must(<-closed)
}

// What runs over its time is killed with its group and undone in time.
func TestTimeout(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t)
	f.define("a", "z")
	f.config = obj{"timeout": obj{"add": "20s", "del": "12s"}}
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{"ADD": []any{obj{"allocate": true}, obj{"forkGroup": "1h"}, obj{"sleep": "1h"}}}))
	before := f.snapshot()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := f.node.CNI(ctx, f.networks("a,b,z").request("ADD", "c1", f.stdin(nil)))
	f.must(err)
	f.refused(out, 11, `"b"`, "out of time", "timeout")
	nettest.RequireSame(t, before, f.snapshot())
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD a net1", "ADD b net2", "DEL b net2", "DEL a net1", "DEL cluster eth0"})
}

// A delegate that hangs in DEL gets its share of the time and starves nobody.
func TestTimeoutOfDel(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t)
	f.define("a")
	f.config = obj{"timeout": obj{"add": "30s", "del": "12s"}}
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{"DEL": []any{obj{"sleep": "1h"}}}))
	f.networks("a,b").ok("ADD", "c1")
	f.forget()
	f.refused(f.call("DEL", "c1", nil), 11, `"b"`, "out of time")
	f.want(f.calls(), []string{"DEL b net2", "DEL a net1", "DEL cluster eth0"})
}

// A daemon that a delegate leaves behind on purpose, pipes open, delays
// nobody and lives on.
func TestDaemonLeftBehind(t *testing.T) {
	f := newFixture(t)
	f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", obj{"ADD": []any{obj{"allocate": true}, obj{"fork": "10m"}}}))
	t.Cleanup(f.endDaemons)
	start := time.Now()
	f.networks("a").ok("ADD", "c1")
	f.ok("DEL", "c1")
	if took := time.Since(start); took > 9*time.Second { // a delegate that outlives its plugin is waited for 10 s
		t.Errorf("ADD and DEL took %s: they waited for the daemon", took)
	}
	if !strings.Contains(f.snapshot(), "recorder") {
		t.Error("the daemon is gone: it was killed")
	}
}

// endDaemons kills what runs in the node.
func (f *fixture) endDaemons() {
	f.Helper()
	left, err := exec.Command("ip", "netns", "pids", f.node.Name()).Output()
	f.must(err)
	for pid := range strings.FieldsSeq(string(left)) {
		_ = exec.Command("kill", "-9", pid).Run() // it may have ended
	}
}
