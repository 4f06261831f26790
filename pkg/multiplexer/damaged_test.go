package multiplexer_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// unnumber takes the numbers out of the plan lines of a container's journal:
// as a version wrote them that knew none.
func (f *fixture) unnumber(container string) {
	f.Helper()
	path := f.file("state/journal/" + container)
	raw, err := os.ReadFile(path)
	f.must(err)
	var out []byte
	for line := range bytes.Lines(raw) {
		_, body, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		if bytes.HasPrefix(body, []byte(`{"e":"plan"`)) {
			body = bytes.ReplaceAll(body, []byte(`,"i":1`), nil)
		}
		out = fmt.Appendf(out, "%08x %s\n", crc32.ChecksumIEEE(body), body)
	}
	f.must(os.WriteFile(path, out, 0o600))
}

// planDamages are the ways in which a journal of the cluster network and two
// more loses plan lines.
func planDamages() map[string]func(f *fixture) {
	const aPlan, anAdding, anAdded = `"e":"plan"`, `"e":"adding"`, `"e":"added"`
	return map[string]func(f *fixture){
		"the cluster network's": func(f *fixture) { f.flip("c1", aPlan, 1) },
		"the others'":           func(f *fixture) { f.flip("c1", aPlan, 2) },
		"both":                  func(f *fixture) { f.flip("c1", aPlan, 2); f.flip("c1", aPlan, 1) },
		"all about the cluster network": func(f *fixture) {
			f.flip("c1", aPlan, 1)
			f.flip("c1", anAdding, 1)
			f.flip("c1", anAdded, 1)
		},
		"all about the others": func(f *fixture) {
			f.flip("c1", aPlan, 2)
			for range 2 {
				f.flip("c1", anAdding, 2)
				f.flip("c1", anAdded, 2)
			}
		},
		"the first line too":               func(f *fixture) { f.flip("c1", aPlan, 1); f.flip("c1", `"e":"open"`, 1) },
		"the cluster network's, no number": func(f *fixture) { f.unnumber("c1"); f.flip("c1", aPlan, 1) },
		"the others', no number":           func(f *fixture) { f.unnumber("c1"); f.flip("c1", aPlan, 2) },
	}
}

// A damaged plan line hides no network from DEL: what is whole is released as
// it was planned, the rest as configuration and annotations say today, and
// each once, last first.
func TestDamagedPlanLine(t *testing.T) {
	for name, damage := range planDamages() {
		for _, verb := range []string{"DEL", "ADD"} {
			t.Run(name+", "+verb, func(t *testing.T) {
				f := newFixture(t)
				f.define("a", "b")
				before := f.snapshot()
				f.networks("a,b").ok("ADD", "c1")
				added := f.called("ADD")
				damage(f)
				f.forget()
				out := f.ok(verb, "c1")
				dels := f.called("DEL")
				var got []string
				for _, c := range dels {
					got = append(got, c.Name+" "+c.IfName)
				}
				f.want(got, []string{"b net2", "a net1", "cluster eth0"})
				if !strings.Contains(string(out.Stderr), "journal are damaged") {
					t.Errorf("nothing is logged: %s", out.Stderr)
				}
				for _, c := range dels { // no index is another's
					was := added[map[string]int{"cluster": 0, "a": 1, "b": 2}[c.Name]]
					f.want([]string{c.IfName, c.Netns, c.ContainerID}, []string{was.IfName, was.Netns, was.ContainerID})
					if ips, ok := f.conf(c)["prevResult"].(obj); ok {
						address := ips["ips"].([]any)[0].(obj)["address"].(string)
						f.want(address[:5], map[string]string{"cluster": "10.0.", "a": "10.50", "b": "10.51"}[c.Name])
					}
				}
				if verb == "ADD" {
					f.ok("DEL", "c1")
				}
				nettest.RequireSame(t, before, f.snapshot())
			})
		}
	}
}

// What is whole needs no file of today.
func TestDamagedPlanLineReplaysTheRest(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	f.networks("a,b").ok("ADD", "c1")
	f.flip("c1", `"e":"plan"`, 1)
	f.must(os.RemoveAll(f.file("conf")))
	f.forget()
	f.ok("DEL", "c1")
	f.want(f.calls(), []string{"DEL b net2", "DEL a net1", "DEL cluster eth0"})
	f.want(f.leases("a")+f.leases("b")+f.leases("cluster"), 0)
}

// What the damage hid and could not be detached is tried again by the next DEL, and
// nothing is detached twice.
func TestDamagedPlanLineIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.write("conf/b.conflist", f.list("b", "10.70.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}},
		"DEL": []any{obj{"failOnce": obj{"code": 999, "msg": "busy"}}, obj{"free": true}},
	}))
	before := f.snapshot()
	f.networks("a,b").ok("ADD", "c1")
	f.flip("c1", `"e":"plan"`, 2)
	f.forget()
	f.refused(f.call("DEL", "c1", nil), 999, "busy")
	f.want(f.calls(), []string{"DEL b net2", "DEL a net1", "DEL cluster eth0"})
	f.forget()
	f.ok("DEL", "c1")
	f.want(f.calls(), []string{"DEL b net2"})
	nettest.RequireSame(t, before, f.snapshot())
}

// Where the cluster network is not known today, DEL fails and the journal
// stays: the others are detached all the same.
func TestDamagedPlanLineAndNoClusterNetwork(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	f.networks("a,b").ok("ADD", "c1")
	f.flip("c1", `"e":"plan"`, 2)
	f.flip("c1", `"e":"plan"`, 1)
	f.must(os.Rename(f.file("net.d/10-cluster.conflist"), f.file("kept")))
	f.write("net.d/10-cluster.conflist", `{"name":`)
	f.config = obj{"clusterNetwork": f.file("net.d/10-cluster.conflist")}
	f.refused(f.call("DEL", "c1", nil), 6, "10-cluster.conflist")
	f.want(f.leases("a")+f.leases("b"), 0)
	f.must(os.Rename(f.file("kept"), f.file("net.d/10-cluster.conflist")))
	f.ok("DEL", "c1")
	f.want(f.leases("cluster"), 0)
	f.want(f.journals(), 0)
}

// journals is how many containers have a journal.
func (f *fixture) journals() int {
	f.Helper()
	entries, err := os.ReadDir(f.file("state/journal"))
	f.must(err)
	return len(entries)
}

// Other calls do not know the pod whose networks are hidden: they leave the
// journal to the container's own DEL.
func TestDamagedPlanLineIsLeftToItsDEL(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	before := f.snapshot()
	f.networks("a").ok("ADD", "c1")
	f.flip("c1", `"e":"plan"`, 2)
	f.must(f.pod.Replace())
	f.write("state/release/c1", "")
	f.forget()
	f.annotations = nil
	f.ok("DEL", "other")
	f.want(f.calls(), []string{"DEL cluster eth0"})
	f.want(f.journals(), 1)
	f.networks("a").ok("DEL", "c1")
	f.want(f.leases("a"), 0)
	f.want(f.journals(), 0)
	nettest.RequireSame(t, before, f.snapshot())
}

// CHECK cannot vouch for a network that it does not know.
func TestCheckWithADamagedPlanLine(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.networks("a").ok("ADD", "c1")
	f.flip("c1", `"e":"plan"`, 2)
	f.refused(f.call("CHECK", "c1", nil), 5, "c1", "damaged", "delete the pod")
}

// Behind the cluster network in one list, that one is not ours to detach.
func TestDamagedPlanLineInAChain(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	result := obj{"prevResult": obj{"cniVersion": "1.1.0", "interfaces": []any{obj{"name": "eth0", "sandbox": f.netns}}, "ips": []any{obj{"address": "10.0.0.2/24", "interface": 0}}}}
	f.config = obj{"routing": obj{"mode": "plain"}}
	if e := f.networks("a,b").call("ADD", "c1", result).Error(); e != nil {
		t.Fatal(e)
	}
	f.flip("c1", `"e":"plan"`, 1)
	f.forget()
	if e := f.call("DEL", "c1", result).Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"DEL b net2", "DEL a net1"})
}
