package multiplexer_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

func (f *fixture) leases(network string) int {
	f.Helper()
	names, err := filepath.Glob(f.file("rec/leases/" + network + "/*"))
	f.must(err)
	return len(names)
}

// start runs a call in the background and waits until a delegate got as far
// as its marker.
func (f *fixture) start(verb, container, marker string) <-chan nettest.Outcome {
	f.Helper()
	done := make(chan nettest.Outcome, 1)
	process, err := f.node.StartCNI(f.Context(), f.request(verb, container, f.stdin(nil)))
	f.must(err)
	go func() {
		out, waitErr := process.Wait()
		if waitErr != nil {
			f.Error(waitErr)
		}
		done <- out
	}()
	f.await(marker)
	return done
}

// await waits until a delegate got as far as its marker.
func (f *fixture) await(marker string) {
	f.Helper()
	for giveUp := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(f.file("rec/" + marker)); err == nil {
			return
		}
		if time.Now().After(giveUp) {
			f.Fatalf("no delegate ever reached %q", marker)
		}
	}
}

// A container that a call works on is in use: GC must name its attachments to
// every network, or their addresses are given to others.
func TestGCWhileAContainerIsBusy(t *testing.T) {
	f := newFixture(t)
	conf := f.list("a", "10.50.0.0/24", obj{"ADD": []any{obj{"allocate": true}}, "CHECK": []any{obj{"touch": "checking"}, obj{"waitFor": "go"}}})
	conf["cniVersion"] = "1.1.0"
	f.write("conf/a.conflist", conf)
	f.networks("a").ok("ADD", "c1")
	f.ok("ADD", "c2")
	checking := f.start("CHECK", "c1", "checking")
	valid := obj{"cni.dev/valid-attachments": []any{obj{"containerID": "c1", "ifname": "eth0"}, obj{"containerID": "c2", "ifname": "eth0"}}}
	if e := f.call("GC", "", valid).Error(); e != nil {
		t.Error(e)
	}
	f.write("rec/go", "")
	<-checking
	f.want(f.leases("a"), 2)
}

// What cannot be read may be in use: then no secondary network collects.
func TestGCWithAnUnreadableJournal(t *testing.T) {
	f := newFixture(t)
	conf := f.list("a", "10.50.0.0/24", nil)
	conf["cniVersion"] = "1.1.0"
	f.write("conf/a.conflist", conf)
	f.networks("a").ok("ADD", "kept")
	f.ok("ADD", "gone")
	f.must(os.Mkdir(f.file("state/journal/strange"), 0o700))
	f.refused(f.call("GC", "", obj{"cni.dev/valid-attachments": []any{obj{"containerID": "kept", "ifname": "eth0"}}}), 5, "strange")
	f.want(f.leases("a"), 1) // the others are collected all the same
	for _, c := range f.called("GC") {
		t.Errorf("network %q was asked to collect although a journal cannot be read", c.Name)
	}
}

// More stale containers than there is time for: those that are reached are
// released whole, and the rest is named.
func TestGCOfManyMakesProgress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"sleep": "2s"}, obj{"free": true}},
	}))
	for i := range 20 {
		f.ok("ADD", fmt.Sprintf("c%d", i))
	}
	f.refused(f.call("GC", "", obj{"cni.dev/valid-attachments": []any{}}), 11, "no time left for", "next GC")
	if left := f.leases("cluster"); left > 14 {
		t.Errorf("%d of 20 are left", left)
	}
}

// The result of a network whose gateway is the pod's own address, or whose
// route is the gateway's: a route to the gateway has no gateway.
func TestCheckOfHostRouteToTheGateway(t *testing.T) {
	f := newFixture(t)
	bin := t.TempDir()
	f.path = append(f.path, bin)
	script := `#!/bin/sh
[ $CNI_COMMAND = ADD ] || exit 0
set -e
n=$(basename $CNI_NETNS)
ip link add h-$$ type veth peer name $CNI_IFNAME netns $n
ip -n $n link set $CNI_IFNAME up
ip link set h-$$ up
ip -n $n addr add 10.0.1.7/32 dev $CNI_IFNAME
ip -n $n route add 10.0.1.5 dev $CNI_IFNAME scope link
ip -n $n route add default via 10.0.1.5 dev $CNI_IFNAME
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.0.1.7/32","gateway":"10.0.1.5","interface":0}],
 "routes":[{"dst":"10.0.1.5/32"},{"dst":"0.0.0.0/0","gw":"10.0.1.5"}]}'
`
	f.must(os.WriteFile(filepath.Join(bin, "slim"), []byte(script), 0o755))
	f.write("net.d/10-cluster.conflist", obj{"cniVersion": "1.0.0", "name": "cluster", "plugins": []any{obj{"type": "slim"}}})
	f.ok("ADD", "c1")
	f.ok("CHECK", "c1")
}

// A chain with sbr moves routes to another table and leaves its result.
func TestCheckOfAChainWithSBR(t *testing.T) {
	f := real(t)
	f.write("conf/a.conflist", obj{"cniVersion": "1.0.0", "name": "a", "plugins": []any{
		obj{"type": "bridge", "bridge": "a0", "isGateway": true, "ipam": obj{
			"type": "host-local", "dataDir": f.file("ipam"), "ranges": []any{[]any{obj{"subnet": "10.50.0.0/24"}}}, "routes": []any{obj{"dst": "172.16.0.0/12"}},
		}},
		obj{"type": "sbr"},
	}})
	f.ok("ADD", "c1")
	pod, err := f.pod.Handle()
	f.must(err)
	_, err = pod.LinkByName("net1")
	f.must(err)
	if e := f.call("CHECK", "c1", nil).Error(); e != nil && !strings.Contains(e.Msg, "plugin ") {
		t.Errorf("our own comparison fails: %s", e)
	}
}

// A null where a value should be, in versions whose converters take it for
// one.
func TestResultWithNulls(t *testing.T) {
	for _, result := range []string{`"ips":[null]`, `"interfaces":[null]`, `"routes":[null]`} {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0"} {
			f := newFixture(t)
			conf := f.list("a", "10.50.0.0/24", obj{"ADD": []any{obj{"allocate": true}, obj{"stdout": `{"cniVersion":"` + version + `",` + result + `}`}}})
			conf["cniVersion"] = version
			f.write("conf/a.conflist", conf)
			before := f.snapshot()
			f.refused(f.networks("a").call("ADD", "c1", nil), 6, `"a"`, "result")
			nettest.RequireSame(t, before, f.snapshot())
		}
	}
	f := newFixture(t)
	f.refused(f.call("ADD", "c1", obj{"prevResult": obj{"cniVersion": "0.4.0", "ips": []any{nil}}}), 6, "prevResult")
}

// One interface of a container is ours; a call about another touches nothing.
func TestAnotherInterfaceOfTheContainer(t *testing.T) {
	f := newFixture(t)
	f.ok("ADD", "c1")
	for verb, code := range map[string]uint{"ADD": 7, "DEL": 0} {
		call := f.request(verb, "c1", f.stdin(nil))
		call.IfName = "eth7"
		out, err := f.node.CNI(t.Context(), call)
		f.must(err)
		if code == 0 && out.Error() != nil {
			t.Errorf("%s: %s", verb, out.Error())
		} else if code != 0 {
			f.refused(out, code, "eth0", "eth7", "c1")
		}
	}
	f.want(f.calls(), []string{"ADD cluster eth0"})
}

// Behind the cluster network in one list: the runtime asks it by itself.
func TestStatusOfAChain(t *testing.T) {
	f := newFixture(t)
	chain := f.list("cluster", "10.0.0.0/24", nil)
	chain["plugins"] = append(chain["plugins"].([]any), obj{"type": "multiplexer"})
	f.write("net.d/10-cluster.conflist", chain)
	f.ok("STATUS", "")
	f.want(f.calls(), []string(nil))
	// The agent's absence is no reason to turn all pods away.
	f.config = obj{"agentSocket": f.file("none"), "defaultNetworks": []string{"a"}}
	f.ok("STATUS", "")
}

// Nobody reads what we print any more: an ADD is undone, a DEL goes on.
func TestRuntimeGone(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"stderr": "a word\n"}, obj{"free": true}},
	}))
	before := f.snapshot()
	run := func(verb string, closed ...int) {
		call := f.request(verb, "c1", f.stdin(obj{"logLevel": "debug"}))
		read, write, err := os.Pipe()
		f.must(err)
		f.must(read.Close())
		defer write.Close()
		cmd := exec.Command(call.Bin)
		cmd.Stdin = strings.NewReader(string(call.Stdin))
		cmd.Env = []string{
			"CNI_COMMAND=" + verb, "CNI_CONTAINERID=c1", "CNI_NETNS=" + call.Netns, "CNI_IFNAME=eth0",
			"CNI_ARGS=" + call.Args, "CNI_PATH=" + strings.Join(call.Path, ":"), "PATH=" + os.Getenv("PATH"),
		}
		if slices.Contains(closed, 1) {
			cmd.Stdout = write
		}
		if slices.Contains(closed, 2) {
			cmd.Stderr = write
		}
		f.must(f.node.Start(cmd))
		_ = cmd.Wait()
	}
	f.networks("a,b")
	run("ADD", 1, 2)
	nettest.RequireSame(t, before, f.snapshot())
	f.ok("ADD", "c1")
	run("DEL", 1, 2)
	nettest.RequireSame(t, before, f.snapshot())
}

// A DEL that is killed is finished by later calls about others.
func TestKilledDelIsFinishedLater(t *testing.T) {
	f := newFixture(t)
	f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"touch": "deleting"}, obj{"sleep": "300ms"}, obj{"free": true}},
	}))
	before := f.snapshot()
	f.networks("a").ok("ADD", "c1")
	process, err := f.node.StartCNI(t.Context(), f.request("DEL", "c1", f.stdin(nil)))
	f.must(err)
	for f.leases("a") == 1 {
		if _, err = os.Stat(f.file("rec/deleting")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	f.must(process.Kill())
	_, err = process.Wait()
	f.must(err)
	f.annotations = nil
	f.ok("DEL", "other")
	nettest.RequireSame(t, before, f.snapshot())
}

// A DEL without a journal is a call for that container like any other: an
// ADD that comes meanwhile waits for it.
func TestDelWithoutJournalIsLocked(t *testing.T) {
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"touch": "deleting"}, obj{"sleep": "500ms"}, obj{"free": true}},
	}))
	deleting := f.start("DEL", "c1", "deleting")
	f.ok("ADD", "c1")
	<-deleting
	f.want(f.leases("cluster"), 1)
}

// The plans of a journal whose first line is damaged still count.
func TestDamagedFirstLine(t *testing.T) {
	for _, verb := range []string{"DEL", "ADD"} {
		f := newFixture(t)
		f.define("a")
		f.networks("a").ok("ADD", "c1")
		path := f.file("state/journal/c1")
		old, err := os.ReadFile(path)
		f.must(err)
		old[12] ^= 0x01
		f.must(os.WriteFile(path, old, 0o600))
		f.annotations = nil
		if e := f.call(verb, "c1", obj{"cni.dev/valid-attachments": []any{}}).Error(); e != nil {
			t.Errorf("%s: %s", verb, e)
		}
		f.want(f.leases("a"), 0)
	}
}

// An empty journal that nobody claims: a plain pod before a power loss.
func TestGCOfAnEmptyJournal(t *testing.T) {
	f := newFixture(t)
	f.ok("ADD", "c1")
	f.must(os.Truncate(f.file("state/journal/c1"), 0))
	if e := f.call("GC", "", obj{"cni.dev/valid-attachments": []any{}}).Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.leases("cluster"), 0)
}

// Files of the namespace "shared" do not change the network "shared".
func TestNamespaceFolderIsNoPluginFolder(t *testing.T) {
	f := newFixture(t)
	f.define("shared")
	f.write("conf/shared/extra.conf", obj{"type": "no-such-plugin"})
	f.write("conf/shared/half.conf", `{"type":`)
	f.networks("shared").ok("ADD", "c1")
	f.write("conf/shared.conflist", obj{"cniVersion": "1.0.0", "name": "shared", "loadOnlyInlinedPlugins": false, "plugins": []any{}})
	f.must(os.Remove(f.file("conf/shared/half.conf")))
	f.refused(f.call("ADD", "c2", nil), 7, "no-such-plugin")
}

// What is not a regular file is neither followed nor waited for.
func TestStrangeFiles(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.must(exec.Command("mkfifo", f.file("conf/00.conflist"), f.file("state/fifo")).Run())
	f.networks("a").ok("ADD", "c1")
	f.write("victim", "precious")
	f.must(os.Symlink(f.file("victim"), f.file("state/journal/c2")))
	f.refused(f.call("ADD", "c2", nil), 5, "journal/c2")
	got, err := os.ReadFile(f.file("victim"))
	f.must(err)
	f.want(string(got), "precious")
}
