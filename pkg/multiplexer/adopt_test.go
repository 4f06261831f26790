package multiplexer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// multus attaches containers as Multus does: it writes its list, and lets
// libcni attach each network and record it.
type multus struct {
	*fixture
	args [][2]string
}

// delegated is one network of a container of Multus.
type delegated struct {
	list   obj
	ifname string // asked for, or ""
	asked  obj    // more keys of Multus's record
	caps   map[string]any
}

func newMultus(t *testing.T) *multus {
	f := newFixture(t)
	f.config = obj{"cniDir": f.file("multus")}
	return &multus{f, [][2]string{{"IgnoreUnknown", "true"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"}, {"K8S_POD_INFRA_CONTAINER_ID", "c1"}, {"K8S_POD_UID", "0001"}}}
}

// trio is a usual pod of Multus: the cluster network, one more, and one whose
// interface it chose.
func (m *multus) trio() []delegated {
	return []delegated{
		{list: m.list("cluster", "10.0.0.0/24", nil), caps: map[string]any{"portMappings": []any{obj{"hostPort": 80, "containerPort": 8080}}}},
		{list: m.list("a", "10.50.0.0/24", nil)},
		{list: m.list("b", "10.51.0.0/24", nil), ifname: "lab0", asked: obj{"ipRequest": []string{"10.51.0.9/24"}}, caps: map[string]any{"ips": []string{"10.51.0.9/24"}}},
	}
}

// busyTrio is a trio whose second network fails its first DEL.
func (m *multus) busyTrio() []delegated {
	networks := m.trio()
	networks[1].list = m.list("a", "10.50.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}},
		"DEL": []any{obj{"failOnce": obj{"code": 11, "msg": "busy"}}, obj{"free": true}},
	})
	return networks
}

// add attaches a container, all but the last `without` networks, as a Multus
// that was killed has it.
func (m *multus) add(container string, without int, networks ...delegated) {
	m.Helper()
	var list []obj
	for _, n := range networks {
		raw, err := json.Marshal(n.list)
		m.must(err)
		record := obj{"Conf": obj{"name": "", "type": ""}, "ConfList": obj{}, "Name": n.list["name"], "IsFilterV4Gateway": true, "Bytes": raw}
		if n.ifname != "" {
			record["ifnameRequest"] = n.ifname
		}
		for key, value := range n.asked {
			record[key] = value
		}
		list = append(list, record)
	}
	raw, err := json.Marshal(list)
	m.must(err)
	m.must(os.MkdirAll(m.file("multus"), 0o700))
	m.must(os.WriteFile(m.record(container), raw, 0o600))
	cni := libcni.NewCNIConfigWithCacheDir(m.path, m.file("multus"), nil)
	for i, n := range networks[:len(networks)-without] {
		m.must(m.node.Do(func() error {
			conf, confErr := json.Marshal(n.list)
			m.must(confErr)
			parsed, confErr := libcni.NetworkConfFromBytes(conf)
			m.must(confErr)
			_, addErr := cni.AddNetworkList(m.Context(), parsed, &libcni.RuntimeConf{ContainerID: container, NetNS: m.netns, IfName: n.name(i), Args: m.args, CapabilityArgs: n.caps})
			return addErr
		}))
	}
}

func (n delegated) name(i int) string {
	switch {
	case n.ifname != "":
		return n.ifname
	case i == 0:
		return "eth0"
	}
	return fmt.Sprintf("net%d", i)
}

func (m *multus) record(container string) string { return m.file("multus/" + container) }

// result is libcni's record.
func (m *multus) result(network, container, ifname string) string {
	return m.file("multus/results/" + network + "-" + container + "-" + ifname)
}

// snapshot shows Multus's records too.
func (m *multus) snapshot() string {
	m.Helper()
	return m.fixture.snapshot() + nettest.RequireSnapshot(m, nettest.SnapshotOptions{Dirs: []nettest.SnapshotDir{{Path: m.file("multus"), Label: "multus", Files: nettest.FileName}}})
}

// clean is the snapshot of a node that Multus has attached nobody on.
func (m *multus) clean() string {
	m.must(os.MkdirAll(m.file("multus/results"), 0o700))
	return m.snapshot()
}

// What Multus attached is detached in reverse with all that it was given, and
// its records go.
func TestDelOfMultus(t *testing.T) {
	m := newMultus(t)
	before := m.clean()
	networks := m.trio()
	networks[2].list["plugins"].([]any)[0].(obj)["capabilities"] = obj{"ips": true}
	networks[0].list["plugins"].([]any)[0].(obj)["capabilities"] = obj{"portMappings": true}
	m.add("c1", 0, networks...)
	// Neither the files of today nor the runtime's arguments are needed.
	m.must(os.RemoveAll(m.file("net.d")))
	m.args, m.fixture.args = nil, ""
	m.ok("CHECK", "c1")
	m.ok("DEL", "c1")
	m.want(m.calls()[3:], []string{"CHECK cluster eth0", "CHECK a net1", "CHECK b lab0", "DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	add, del := m.called("ADD"), m.called("DEL")
	for i, c := range del {
		was := add[len(add)-1-i]
		got, want := m.conf(c), m.conf(was)
		if got["prevResult"] == nil {
			t.Errorf("%s got no prevResult", c.Name)
		}
		delete(got, "prevResult")
		delete(want, "capabilities") // libcni passes them on, we do not (CNI 1.1 section 3)
		m.want(got, want)
		m.want([]string{c.Args, c.IfName, c.Netns, c.ContainerID}, []string{was.Args, was.IfName, was.Netns, was.ContainerID})
	}
	nettest.RequireSame(t, before, m.snapshot())
	m.forget()
	m.write("net.d/10-cluster.conflist", m.list("cluster", "10.0.0.0/24", nil))
	m.ok("DEL", "c1")
	m.want(m.calls(), []string{"DEL cluster eth0"})
}

// Without libcni's record, what Multus's list says is used, and what the
// runtime says now.
func TestDelOfMultusByItsListAlone(t *testing.T) {
	m := newMultus(t)
	before := m.clean()
	networks := m.trio()
	// As versions 4.2.1 to 4.3.0 keep a conflist of a file.
	whole, err := json.Marshal(networks[0].list["plugins"].([]any)[0])
	m.must(err)
	networks[0].asked = obj{"Bytes": []byte(`{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"recorder"}]}`),
		"CNINetworkConfigList": obj{"Name": "cluster", "CNIVersion": "1.0.0", "Plugins": []obj{{"Network": obj{"type": "recorder"}, "Bytes": whole}}}}
	plugin := networks[2].list["plugins"].([]any)[0].(obj)
	plugin["capabilities"] = obj{"ips": true, "mac": true, "portMappings": true}
	networks[2].asked = obj{"ipRequest": []string{"10.51.0.9/24"}, "macRequest": "02:00:00:00:00:09"}
	m.add("c1", 0, networks...)
	m.must(os.RemoveAll(m.file("multus/results")))
	out := m.call("DEL", "c1", obj{"runtimeConfig": obj{"portMappings": []any{obj{"hostPort": 80}}, "io.kubernetes.cri.pod-annotations": obj{}}})
	if e := out.Error(); e != nil {
		t.Fatal(e)
	}
	m.want(m.calls()[3:], []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	del := m.called("DEL")
	m.want(m.conf(del[0])["runtimeConfig"], obj{"ips": []any{"10.51.0.9/24"}, "mac": "02:00:00:00:00:09", "portMappings": []any{obj{"hostPort": 80.0}}})
	m.want(m.conf(del[2])["dir"], m.file("rec"))
	m.want(del[0].Args, m.fixture.args)
	m.must(os.MkdirAll(m.file("multus/results"), 0o700))
	nettest.RequireSame(t, before, m.snapshot())
}

// Where Multus lost its list, or half of it, libcni's records say what there is.
func TestDelOfMultusByResultsAlone(t *testing.T) {
	for name, damage := range map[string]func(m *multus){
		"removed":      func(m *multus) { m.must(os.Remove(m.record("c1"))) },
		"half written": func(m *multus) { m.must(os.Truncate(m.record("c1"), 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMultus(t)
			before := m.clean()
			m.add("c1", 0, m.trio()...)
			damage(m)
			if e := m.call("CHECK", "c1", obj{"prevResult": obj{"cniVersion": "1.1.0"}}).Error(); e != nil {
				t.Error(e)
			}
			out := m.call("DEL", "c1", nil)
			if e := out.Error(); e != nil {
				t.Fatal(e)
			}
			m.want(m.called("DEL")[2].Name, "cluster")
			m.want(len(m.called("DEL")), 3)
			if name == "half written" {
				if !strings.Contains(string(out.Stderr), m.record("c1")) {
					t.Errorf("the damaged record is not named: %s", out.Stderr)
				}
				m.must(os.Remove(m.record("c1"))) // it stays: what it alone named is not known
			}
			nettest.RequireSame(t, before, m.snapshot())
		})
	}
}

// A record that says nothing hinders no DEL: what the pod asks for today is
// detached, and always the cluster network.
func TestDelOfMultusWithABadRecord(t *testing.T) {
	element := func(m *multus, d obj) {
		raw, err := json.Marshal([]obj{d})
		m.must(err)
		m.must(os.WriteFile(m.record("c1"), raw, 0o600))
	}
	conf := func(s string) obj { return obj{"Name": "x", "Bytes": []byte(s)} }
	for name, test := range map[string]struct {
		damage func(m *multus)
		says   string
	}{
		"no JSON":     {func(m *multus) { m.must(os.WriteFile(m.record("c1"), []byte("\x00{"), 0o600)) }, "JSON list"},
		"an object":   {func(m *multus) { m.must(os.WriteFile(m.record("c1"), []byte(`{}`), 0o600)) }, "JSON list"},
		"no delegate": {func(m *multus) { m.must(os.WriteFile(m.record("c1"), []byte(`[]`), 0o600)) }, "no delegate"},
		"empty":       {func(m *multus) { m.must(os.WriteFile(m.record("c1"), nil, 0o600)) }, "JSON list"},
		"FIFO":        {func(m *multus) { m.must(syscall.Mkfifo(m.record("c1"), 0o600)) }, "no regular file"},
		"directory":   {func(m *multus) { m.must(os.Mkdir(m.record("c1"), 0o700)) }, "no regular file"},
		"link":        {func(m *multus) { m.must(os.Symlink("/etc/hostname", m.record("c1"))) }, "too many levels of symbolic links"},
		"huge": {func(m *multus) {
			m.must(os.WriteFile(m.record("c1"), nil, 0o600))
			m.must(os.Truncate(m.record("c1"), 1<<40))
		}, "at most"},
		"another's": {func(m *multus) {
			m.must(os.WriteFile(m.record("c1"), []byte(`[]`), 0o600))
			m.must(os.Chown(m.record("c1"), 1000, 1000))
		}, "user 1000"},
		"others may write": {func(m *multus) {
			m.must(os.WriteFile(m.record("c1"), []byte(`[]`), 0o600))
			m.must(os.Chmod(m.record("c1"), 0o622))
		}, "0622"},
		"no configuration": {func(m *multus) { element(m, obj{"Name": "x"}) }, "empty or null"},
		"a path as type":   {func(m *multus) { element(m, conf(`{"name":"x","type":"../../bin/sh"}`)) }, "without a path"},
		"a path as name":   {func(m *multus) { element(m, conf(`{"name":"../x","type":"recorder"}`)) }, "network name"},
		"Multus itself":    {func(m *multus) { element(m, conf(`{"name":"x","type":"multus"}`)) }, "meta-plugin"},
		"an interface of no kind": {func(m *multus) {
			element(m, obj{"Name": "x", "ifnameRequest": "a/b", "Bytes": []byte(`{"name":"x","type":"recorder"}`)})
		}, "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMultus(t)
			m.define("a")
			m.must(os.MkdirAll(m.file("multus"), 0o700))
			test.damage(m)
			start := time.Now()
			out := m.networks("a").call("DEL", "c1", nil)
			if e := out.Error(); e != nil {
				t.Fatal(e)
			}
			if taken := time.Since(start); taken > 30*time.Second {
				t.Errorf("it took %s", taken)
			}
			m.want(m.calls(), []string{"DEL a net1", "DEL cluster eth0"})
			if log := string(out.Stderr); !strings.Contains(log, test.says) || !strings.Contains(log, m.record("c1")) {
				t.Errorf("neither %q nor the file is said: %s", test.says, log)
			}
			if _, err := os.Lstat(m.record("c1")); err != nil {
				t.Errorf("the record does not stay: %v", err)
			}
			m.ok("STATUS", "")
		})
	}
}

// libcni's record that is of no use takes nothing from what the list says.
func TestDelOfMultusWithABadResult(t *testing.T) {
	for name, damage := range map[string]func(m *multus, path string){
		"half written": func(m *multus, path string) { m.must(os.Truncate(path, 50)) },
		"FIFO":         func(m *multus, path string) { m.must(os.Remove(path)); m.must(syscall.Mkfifo(path, 0o600)) },
		"another's":    func(m *multus, path string) { m.must(os.Chown(path, 1000, 1000)) },
		"of another": func(m *multus, path string) {
			raw, err := os.ReadFile(path)
			m.must(err)
			m.must(os.WriteFile(path, []byte(strings.Replace(string(raw), `"networkName":"a"`, `"networkName":"z"`, 1)), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMultus(t)
			before := m.clean()
			m.add("c1", 0, m.trio()...)
			damage(m, m.result("a", "c1", "net1"))
			out := m.call("DEL", "c1", nil)
			if e := out.Error(); e != nil {
				t.Fatal(e)
			}
			m.want(m.calls()[3:], []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
			if !strings.Contains(string(out.Stderr), m.result("a", "c1", "net1")) {
				t.Errorf("the damaged record is not named: %s", out.Stderr)
			}
			m.must(os.Remove(m.result("a", "c1", "net1")))
			nettest.RequireSame(t, before, m.snapshot())
		})
	}
}

// The container's ID is no path.
func TestDelOfMultusAndAStrangeID(t *testing.T) {
	m := newMultus(t)
	m.write("secret", `[]`)
	m.must(os.MkdirAll(m.file("multus"), 0o700))
	m.refused(m.call("DEL", "../secret", nil), 4, "containerID")
	m.want(m.calls(), []string(nil))
}

// A DEL that fails is kept and tried again by later calls, as any other; only
// then do Multus's records go.
func TestDelOfMultusFails(t *testing.T) {
	m := newMultus(t)
	before := m.clean()
	m.add("c1", 0, m.busyTrio()...)
	m.refused(m.call("DEL", "c1", nil), 11, "busy", `"a"`)
	m.want(m.calls()[3:], []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	for _, path := range []string{m.record("c1"), m.result("a", "c1", "net1"), m.file("state/journal/c1")} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("it does not stay: %v", err)
		}
	}
	m.forget()
	deadline := time.Now().Add(30 * time.Second)
	for !slices.Contains(m.calls(), "DEL a net1") && time.Now().Before(deadline) {
		time.Sleep(200 * time.Millisecond)
		m.ok("DEL", "other")
	}
	m.want(slices.DeleteFunc(m.calls(), func(c string) bool { return c == "DEL cluster eth0" }), []string{"DEL a net1"})
	nettest.RequireSame(t, before, m.snapshot())
}

// A journal of which only the beginning reached the disk is made anew.
func TestDelOfMultusWithATornJournal(t *testing.T) {
	for name, size := range map[string]int64{"empty": 0, "torn": 300} {
		t.Run(name, func(t *testing.T) {
			m := newMultus(t)
			before := m.clean()
			m.add("c1", 0, m.busyTrio()...)
			m.refused(m.call("DEL", "c1", nil), 11, "busy")
			m.must(os.Truncate(m.file("state/journal/c1"), size))
			m.forget()
			m.ok("DEL", "c1")
			m.want(m.calls(), []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
			nettest.RequireSame(t, before, m.snapshot())
		})
	}
}

// An ADD of Multus that was cut short: what it had not recorded is detached
// with what its list says.
func TestDelOfMultusCutShort(t *testing.T) {
	m := newMultus(t)
	before := m.clean()
	m.add("c1", 2, m.trio()...)
	m.ok("CHECK", "c1")
	m.ok("DEL", "c1")
	m.want(m.calls()[1:], []string{"CHECK cluster eth0", "DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	nettest.RequireSame(t, before, m.snapshot())
}

// No state directory, no journal: Multus's records serve until all is done.
func TestDelOfMultusWithoutAState(t *testing.T) {
	m := newMultus(t)
	m.must(os.MkdirAll(m.file("multus/results"), 0o700))
	before := m.clean()
	networks := m.trio()
	networks[1].list = m.list("a", "10.50.0.0/24", obj{
		"ADD": []any{obj{"allocate": true}},
		"DEL": []any{obj{"failOnce": obj{"code": 7, "msg": "once"}}, obj{"free": true}},
	})
	m.add("c1", 0, networks...)
	m.config["stateDir"] = "/proc/no-directory-can-be-made-here"
	m.refused(m.call("DEL", "c1", nil), 7, "once")
	m.want(m.calls()[3:], []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	m.ok("DEL", "c1")
	nettest.RequireSame(t, before, m.snapshot())
}

// The plugin is killed before and after each thing that it does in such a DEL.
// Another DEL leaves nothing, and loses nothing.
func TestDelOfMultusKilled(t *testing.T) {
	for point := 0; ; point += 2 { // before one step is after the one before it
		killed := false
		if !t.Run(fmt.Sprint("point ", point), func(t *testing.T) {
			m := newMultus(t)
			before := m.clean()
			m.add("c1", 0, m.trio()[:2]...)
			seen := 0
			_, err := m.node.TraceCNI(t.Context(), m.request("DEL", "c1", m.stdin(nil)), m.dir, func(nettest.Step) bool {
				killed = killed || seen == point
				seen++
				return killed
			})
			m.must(err)
			m.ok("DEL", "c1")
			nettest.RequireSame(t, before, m.snapshot())
		}) {
			return
		}
		if !killed {
			if point < 20 {
				t.Errorf("only %d points", point)
			}
			return
		}
	}
}

// GC knows the pods of Multus: their networks are asked with them in the list,
// and nothing of theirs is released.
func TestGCWithPodsOfMultus(t *testing.T) {
	m := newMultus(t)
	conf := m.collecting()
	networks := m.trio()
	networks[1].list = conf
	m.add("c1", 0, networks...)
	m.networks("a").ok("ADD", "c2")
	m.forget()
	if e := m.call("GC", "", m.valid("c1", "c2")).Error(); e != nil {
		t.Fatal(e)
	}
	m.want(m.calls(), []string{"GC a "})
	m.want(m.conf(m.called("GC")[0])["cni.dev/valid-attachments"], []any{
		obj{"containerID": "c2", "ifname": "net1"}, obj{"containerID": "c1", "ifname": "net1"},
	})
	m.want(m.leases("a"), 2)
	// One that is not listed may be another runtime's: its namespace is there.
	m.forget()
	if e := m.call("GC", "", m.valid("c2")).Error(); e != nil {
		t.Fatal(e)
	}
	m.want(m.calls(), []string{"GC a "})
	m.want(m.leases("a"), 2)
	// A DEL of c1 was killed before it wrote anything: what c1 has is in Multus's record still.
	m.write("state/journal/c1", "")
	m.forget()
	if e := m.call("GC", "", m.valid("c1", "c2")).Error(); e != nil {
		t.Fatal(e)
	}
	m.want(m.leases("a"), 2)
	// And the record cannot be read: nobody knows what c1 has.
	m.must(os.Truncate(m.record("c1"), 10))
	for range 2 {
		m.forget()
		if e := m.call("GC", "", m.valid("c1", "c2")).Error(); e != nil {
			t.Fatal(e)
		}
		m.want(m.calls(), []string(nil))
		m.want(m.leases("a"), 2)
		m.must(os.RemoveAll(m.file("state/journal/c1")))
	}
}

// What Multus left of a container that is gone, GC releases.
func TestGCOfADeadPodOfMultus(t *testing.T) {
	m := newMultus(t)
	before := withoutPodNS(m.clean())
	m.add("c1", 0, m.trio()...)
	m.must(m.pod.Close())
	m.forget()
	if e := m.call("GC", "", m.valid()).Error(); e != nil {
		t.Fatal(e)
	}
	m.want(m.calls(), []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0"})
	nettest.RequireSame(t, before, withoutPodNS(m.snapshot()))
}

// withoutPodNS leaves the pod's namespace out, which is gone.
func withoutPodNS(snapshot string) string {
	var kept []string
	for line := range strings.SplitSeq(snapshot, "\n") {
		if !strings.HasPrefix(line, "pod ") && !strings.HasPrefix(line, "== pod") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// Nothing of Multus's there: nothing is different.
func TestDelWithoutMultus(t *testing.T) {
	m := newMultus(t)
	m.must(os.MkdirAll(filepath.Join(m.file("multus"), "results"), 0o700))
	m.ok("DEL", "c1")
	m.want(m.calls(), []string{"DEL cluster eth0"})
	m.refused(m.call("DEL", "c1", obj{"cniDir": "multus"}), 7, "cniDir")
}
