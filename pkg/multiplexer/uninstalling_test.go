package multiplexer_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// release calls the plugin as `multiplexerd uninstall --force` does.
func (f *fixture) release() (output string, err error) {
	f.Helper()
	cmd := exec.Command(nettest.Binary(f), "release")
	cmd.Env = []string{"CNI_PATH=" + strings.Join(f.path, ":"), "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = bytes.NewReader(f.stdin(nil))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = f.node.Run(cmd)
	return out.String(), err
}

// kernel gives the cluster network and others real interfaces, which CHECK
// wants to see.
func (f *fixture) kernel(names ...string) {
	f.Helper()
	newest := func(list obj) obj { // which knows GC
		list["cniVersion"] = "1.1.0"
		return list
	}
	f.write("net.d/10-cluster.conflist", newest(f.list("cluster", "10.0.0.0/24", unlinked())))
	for i, name := range names {
		f.write("conf/"+name+".conflist", newest(f.list(name, fmt.Sprintf("10.%d.0.0/24", 50+i), unlinked())))
	}
}

// unlinked is linked, with a DEL that takes the interface away.
func unlinked() obj {
	steps := linked()
	steps["DEL"] = []any{obj{"unlink": true}, obj{"free": true}}
	return steps
}

// uninstalling puts the marker in place, or takes it away.
func (f *fixture) uninstalling(on bool) {
	f.Helper()
	if on {
		f.write("state/uninstalling", "{}")
		return
	}
	f.must(os.Remove(f.file("state/uninstalling")))
}

// While a node is uninstalled, pods that get more than the cluster network
// wait, whoever gives it to them; all other pods and all other verbs go on.
func TestUninstalling(t *testing.T) {
	for name, ask := range map[string]func(f *fixture){
		"annotation":      func(f *fixture) { f.networks("a") },
		"default network": func(f *fixture) { f.config = obj{"defaultNetworks": []any{"a"}} },
		"delegates": func(f *fixture) {
			f.config = obj{"delegates": []any{f.list("cluster", "10.0.0.0/24", unlinked()), f.list("more", "10.1.0.0/24", unlinked())}}
		},
		"another cluster network": func(f *fixture) {
			f.config = obj{"globalNamespaces": "default"}
			f.annotations = map[string]string{"v1.multus-cni.io/default-network": "default/a"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.kernel("a")
			f.write("conf/default/a.conflist", f.list("a", "10.50.0.0/24", unlinked()))
			ask(f)
			before := f.snapshot()
			f.ok("ADD", "older")
			f.uninstalling(true)
			f.forget()
			f.refused(f.call("ADD", "younger", nil), 11, "shop/web", "being uninstalled", f.file("state/uninstalling"), "multiplexerd install")
			f.want(f.calls(), []string(nil)) // nothing was attached in vain
			f.ok("CHECK", "older")
			f.ok("STATUS", "")
			f.ok("DEL", "younger")
			f.ok("DEL", "older")
			config := f.config
			f.config, f.annotations = nil, nil
			f.ok("ADD", "plain")
			f.ok("DEL", "plain")
			f.uninstalling(false)
			nettest.RequireSame(t, before, f.snapshot())
			f.config = config
			ask(f)
			f.ok("ADD", "younger")
			f.ok("DEL", "younger")
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
}

// An annotation that names nothing asks for nothing.
func TestUninstallingPlain(t *testing.T) {
	for _, annotation := range []string{"", "  ", "[]"} {
		f := newFixture(t)
		f.uninstalling(true)
		f.networks(annotation).ok("ADD", "c1")
		f.ok("DEL", "c1")
	}
}

// forceMark is what uninstall --force writes.
func (f *fixture) forceMark(container string) {
	f.Helper()
	f.uninstalling(true)
	f.write("state/release/"+container, "networks\n")
}

// unmarked is a snapshot without the marker.
func (f *fixture) unmarked() string {
	f.Helper()
	f.uninstalling(false)
	return f.snapshot()
}

// An uninstall that was called off takes nothing from anybody.
func TestNetworksStayIfTheUninstallIsCalledOff(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.networks("a").ok("ADD", "c1")
	f.forceMark("c1")
	f.uninstalling(false)
	f.forget()
	f.ok("STATUS", "")
	f.want(f.detached(), []string(nil))
	f.want(f.marks(), []string(nil))
}

// A container that is ordered to give its networks up goes on with the cluster
// network alone; its DEL releases that.
func TestNetworksDetached(t *testing.T) {
	for name, detach := range map[string]func(f *fixture){
		"by hand": func(f *fixture) {
			out, err := f.release()
			if err != nil {
				f.Fatalf("%v: %s", err, out)
			}
		},
		"by STATUS":      func(f *fixture) { f.ok("STATUS", "") },
		"by GC":          func(f *fixture) { f.gcAll("c1") },
		"by another DEL": func(f *fixture) { f.ok("DEL", "other") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.kernel("a", "b")
			before := f.snapshot()
			f.networks(`[{"name":"a"},{"name":"b","default-route":["10.51.0.1"]}]`)
			f.ok("ADD", "c1")
			f.forceMark("c1")
			f.forget()
			detach(f)
			f.want(f.detached(), []string{"DEL b net2", "DEL a net1"})
			f.want(f.marks(), []string(nil))
			f.forget()
			f.ok("CHECK", "c1")
			f.want(f.calls(), []string{"CHECK cluster eth0"})
			f.forget()
			f.gcAll("c1") // what is gone is not in use
			asked := map[string]bool{}
			for _, c := range f.called("GC") {
				asked[c.Name] = true
				want := 1
				if c.Name != "cluster" {
					want = 0
				}
				if valid, _ := f.conf(c)["cni.dev/valid-attachments"].([]any); len(valid) != want {
					t.Errorf("GC of %s: %d attachments are in use, want %d", c.Name, len(valid), want)
				}
			}
			f.want(asked, map[string]bool{"cluster": true, "a": true, "b": true})
			f.forget()
			f.ok("STATUS", "")
			f.ok("DEL", "c1")
			f.want(f.detached(), []string{"DEL cluster eth0"})
			nettest.RequireSame(t, before, f.unmarked())
		})
	}
}

// detached are the DELs, but for those of a container that was never there.
func (f *fixture) detached() []string {
	f.Helper()
	var out []string
	for _, c := range f.called("DEL") {
		if c.ContainerID != "other" {
			out = append(out, strings.Join([]string{c.Verb, c.Name, c.IfName}, " "))
		}
	}
	return out
}

func (f *fixture) marks() []string {
	f.Helper()
	entries, err := os.ReadDir(f.file("state/release"))
	f.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// gcAll is a GC of a runtime that has these containers.
func (f *fixture) gcAll(containers ...string) {
	f.Helper()
	valid := []any{}
	for _, c := range containers {
		valid = append(valid, obj{"containerID": c, "ifname": "eth0"})
	}
	out := f.call("GC", "", obj{"cni.dev/valid-attachments": valid})
	if e := out.Error(); e != nil {
		f.Fatalf("GC: %s\n%s", e, out.Stderr)
	}
}

// What cannot be detached is tried again, and the rest is not: by later calls
// after a pause, by hand at once. The pod's DEL waits for neither.
func TestNetworksDetachedAgain(t *testing.T) {
	for _, last := range []string{"by hand", "by STATUS", "by its DEL"} {
		t.Run(last, func(t *testing.T) {
			f := newFixture(t)
			f.define("a", "z")
			f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
				"ADD": []any{obj{"allocate": true}},
				"DEL": []any{obj{"failOnce": obj{"code": 11, "msg": "daemon is away"}}, obj{"free": true}},
			}))
			before := f.snapshot()
			f.networks("a,b,z").ok("ADD", "c1")
			f.forceMark("c1")
			f.forget()
			start := time.Now()
			out, err := f.release()
			if err == nil || !strings.Contains(out, "daemon is away") || !strings.Contains(out, "c1") {
				t.Fatalf("%v: %s", err, out)
			}
			f.want(f.calls(), []string{"DEL z net3", "DEL b net2", "DEL a net1"})
			f.want(f.marks(), []string{"c1"})
			f.forget()
			f.ok("STATUS", "")
			if time.Since(start) < pause {
				f.want(f.detached(), []string(nil)) // not at once
			}
			want := []string{"DEL b net2"}
			switch last {
			case "by hand":
				if out, err = f.release(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			case "by STATUS":
				for deadline := time.Now().Add(30 * time.Second); len(f.marks()) > 0 && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
					f.ok("STATUS", "")
				}
			case "by its DEL":
				f.ok("DEL", "c1")
				want = append(want, "DEL cluster eth0")
			}
			f.want(f.detached(), want)
			f.want(f.marks(), []string(nil))
			f.ok("DEL", "c1")
			nettest.RequireSame(t, before, f.unmarked())
		})
	}
}

// An order does not come true on a container that has ended or is ending: all
// of it is released.
func TestNetworksDetachedOfTheDead(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	before := f.snapshot()
	f.networks("a").ok("ADD", "c1")
	f.forceMark("c1")
	f.forceMark("unknown")
	f.must(f.pod.Replace())
	f.forget()
	out, err := f.release()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.want(f.calls(), []string{"DEL a net1", "DEL cluster eth0"})
	nettest.RequireSame(t, before, f.unmarked())
}

// A pod behind another plugin in the node's own list: all that is in the
// journal is beside the cluster network.
func TestNetworksDetachedInAChain(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	before := f.snapshot()
	prev := obj{"cniVersion": "1.0.0", "interfaces": []any{obj{"name": "eth0", "sandbox": f.netns}}, "ips": []any{obj{"address": "10.0.0.9/24", "interface": 0}}}
	f.config = obj{"prevResult": prev}
	f.networks("a").ok("ADD", "c1")
	f.forceMark("c1")
	f.forget()
	out, err := f.release()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.want(f.calls(), []string{"DEL a net1"})
	f.ok("DEL", "c1")
	f.want(f.calls(), []string{"DEL a net1"})
	nettest.RequireSame(t, before, f.unmarked())
}

// What a killed plugin had begun is ended first, and then done.
func TestNetworksDetachedAfterAKill(t *testing.T) {
	f := newFixture(t)
	f.kernel("a")
	slow := unlinked()
	slow["DEL"] = []any{obj{"sleep": "700ms"}, obj{"unlink": true}, obj{"free": true}}
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", slow))
	before := f.snapshot()
	f.networks("a,b").ok("ADD", "c1")
	f.forceMark("c1")
	f.forget()
	cmd := exec.Command(nettest.Binary(f), "release")
	cmd.Env = []string{"CNI_PATH=" + strings.Join(f.path, ":")}
	cmd.Stdin = bytes.NewReader(f.stdin(nil))
	f.must(f.node.Start(cmd))
	for deadline := time.Now().Add(20 * time.Second); !slices.Contains(f.calls(), "DEL b net2"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("b is not detached")
		}
	}
	f.must(cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	f.ok("STATUS", "") // has no time for what was interrupted
	f.want(f.marks(), []string{"c1"})
	if out, err := f.release(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.want(fmt.Sprint(f.detached()), "[DEL b net2 DEL b net2 DEL a net1]")
	f.ok("CHECK", "c1")
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.unmarked())
}

// A kill after any line of the journal, and before the line that says what was
// done: done again, it does no harm, and ends the same. So does a DEL.
func TestNetworksDetachedFromAnyLine(t *testing.T) {
	f := newFixture(t)
	f.kernel("a", "b")
	f.networks("a,b")
	before := f.snapshot()
	f.ok("ADD", "c1")
	attached, err := os.ReadFile(f.file("state/journal/c1"))
	f.must(err)
	f.forceMark("c1")
	if out, rerr := f.release(); rerr != nil {
		t.Fatalf("%v: %s", rerr, out)
	}
	done, err := os.ReadFile(f.file("state/journal/c1"))
	f.must(err)
	f.ok("DEL", "c1")
	nettest.RequireSame(t, before, f.unmarked())
	if !bytes.HasPrefix(done, attached) || bytes.Count(done[len(attached):], []byte("\n")) < 6 {
		t.Fatalf("not as this test takes it:\n%s", done)
	}
	for end := len(attached); end <= len(done); end += bytes.IndexByte(done[end:], '\n') + 1 {
		for _, verb := range []string{"release", "DEL"} {
			f.ok("ADD", "c1")
			f.forceMark("c1")
			if out, rerr := f.release(); rerr != nil {
				t.Fatalf("%v: %s", rerr, out)
			}
			now, rerr := os.ReadFile(f.file("state/journal/c1"))
			f.must(rerr)
			f.must(os.WriteFile(f.file("state/journal/c1"), firstLines(now, bytes.Count(done[:end], []byte("\n"))), 0o600))
			f.forceMark("c1")
			f.forget()
			if verb == "release" {
				if out, oerr := f.release(); oerr != nil {
					t.Fatalf("%v: %s", oerr, out)
				}
				f.want(f.marks(), []string(nil))
				f.ok("CHECK", "c1")
			}
			f.ok("DEL", "c1")
			nettest.RequireSame(t, before, f.unmarked())
		}
		if end == len(done) {
			break
		}
	}
}

func firstLines(text []byte, n int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[:n], nil)
}
