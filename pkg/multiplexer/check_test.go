package multiplexer_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// real is a fixture whose networks are the reference bridge plugin's.
func real(t *testing.T) *fixture {
	f := newFixture(t)
	bridge := func(name, subnet string, more obj) obj {
		p := obj{
			"type": "bridge", "bridge": name + "0", "isGateway": true,
			"ipam": obj{"type": "host-local", "dataDir": f.file("ipam"), "ranges": []any{[]any{obj{"subnet": subnet}}}, "routes": more["routes"]},
		}
		if more["default"] != nil {
			p["isDefaultGateway"] = true
		}
		return obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{p, obj{"type": "tuning", "mtu": 1400}}}
	}
	f.write("net.d/10-cluster.conflist", bridge("cluster", "10.0.0.0/24", obj{"default": true}))
	f.write("conf/a.conflist", bridge("a", "10.50.0.0/24", obj{"routes": []any{obj{"dst": "172.16.0.0/12"}}}))
	return f.networks("a")
}

func TestCheckNotices(t *testing.T) {
	link := func(f *fixture, h *netlink.Handle, name string) netlink.Link {
		l, err := h.LinkByName(name)
		f.must(err)
		return l
	}
	for name, c := range map[string]struct {
		harm  func(f *fixture, h *netlink.Handle)
		words []string
	}{
		"link": {func(f *fixture, h *netlink.Handle) { f.must(h.LinkDel(link(f, h, "net1"))) }, []string{"net1"}},
		"address": {func(f *fixture, h *netlink.Handle) {
			addr, err := netlink.ParseAddr("10.50.0.2/24")
			f.must(err)
			f.must(h.AddrDel(link(f, h, "net1"), addr))
		}, []string{"net1"}},
		"route": {func(f *fixture, h *netlink.Handle) {
			dst, err := netlink.ParseIPNet("172.16.0.0/12")
			f.must(err)
			f.must(h.RouteDel(&netlink.Route{LinkIndex: link(f, h, "net1").Attrs().Index, Dst: dst}))
		}, []string{"172.16.0.0"}},
		"what only the delegate knows": {func(f *fixture, h *netlink.Handle) {
			f.must(h.LinkSetMTU(link(f, h, "net1"), 1300))
		}, []string{"tuning"}},
		"eth0": {func(f *fixture, h *netlink.Handle) { f.must(h.LinkDel(link(f, h, "eth0"))) }, []string{"eth0"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := real(t)
			f.ok("ADD", "c1")
			f.ok("CHECK", "c1")
			h, err := f.pod.Handle()
			f.must(err)
			c.harm(f, h)
			f.refused(f.call("CHECK", "c1", nil), f.call("CHECK", "c1", nil).Error().Code, c.words...)
			f.ok("DEL", "c1")
			f.want(f.call("CHECK", "c1", nil).Error().Code, uint(3))
		})
	}
}

// A delegate that finds nothing is not taken at its word: the kernel is read.
// disableCheck turns both off.
func TestCheckByItself(t *testing.T) {
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", linked()))
	steps := linked()
	steps["CHECK"] = []any{}
	conf := f.list("a", "10.50.0.0/24", steps)
	f.write("conf/a.conflist", conf)
	conf["disableCheck"], conf["name"] = true, "b"
	conf["plugins"].([]any)[0].(obj)["subnet"] = "10.51.0.0/24"
	f.write("conf/b.conflist", conf)
	f.networks("a,b").ok("ADD", "c1")
	f.ok("CHECK", "c1")
	h, err := f.pod.Handle()
	f.must(err)
	l, err := h.LinkByName("net1")
	f.must(err)
	addr, err := netlink.ParseAddr("10.50.0.2/24")
	f.must(err)
	f.must(h.AddrDel(l, addr))
	f.refused(f.call("CHECK", "c1", nil), 999, "net1", "10.50.0.2/24")
	f.must(h.LinkDel(l))
	f.refused(f.call("CHECK", "c1", nil), 999, "net1", "does not exist")
	second, err := h.LinkByName("net2")
	f.must(err)
	f.must(h.LinkDel(second))
	for _, c := range f.called("CHECK") {
		if c.Name == "b" {
			t.Error("disableCheck is not honoured")
		}
	}
	if e := f.call("CHECK", "c1", nil).Error(); strings.Contains(e.Msg, "net2") {
		t.Errorf("disableCheck is not honoured: %s", e.Msg)
	}
}

func TestStatus(t *testing.T) {
	status := func(name string, code int) obj {
		conf := obj{"cniVersion": "1.1.0", "name": name, "plugins": []any{obj{"type": "recorder", "steps": obj{"STATUS": []any{obj{"error": obj{"code": code, "msg": name + " is down"}}}}}}}
		return conf
	}
	withDir := func(f *fixture, conf obj) obj {
		conf["plugins"].([]any)[0].(obj)["dir"] = f.file("rec")
		return conf
	}
	t.Run("well", func(t *testing.T) {
		f := newFixture(t)
		f.define("a")
		f.config = obj{"defaultNetworks": []string{"a"}}
		f.ok("STATUS", "")
	})
	for _, code := range []int{50, 51} {
		f := newFixture(t)
		f.write("net.d/10-cluster.conflist", withDir(f, status("cluster", code)))
		f.refused(f.call("STATUS", "", nil), uint(code), "cluster is down")
	}
	t.Run("default network", func(t *testing.T) {
		f := newFixture(t)
		f.config = obj{"defaultNetworks": []string{"a"}}
		f.refused(f.call("STATUS", "", nil), 50, "defaultNetworks", `"a"`)
		f.write("conf/a.conflist", withDir(f, status("a", 50)))
		f.refused(f.call("STATUS", "", nil), 50, "a is down")
	})
	t.Run("a secondary's trouble is nobody else's", func(t *testing.T) {
		f := newFixture(t)
		f.write("conf/a.conflist", withDir(f, status("a", 50)))
		f.ok("STATUS", "")
	})
	t.Run("no cluster network", func(t *testing.T) {
		f := newFixture(t)
		f.config = obj{"clusterNetwork": f.file("later.conflist")}
		f.refused(f.call("STATUS", "", nil), 50, "later.conflist")
		f.config = obj{"readinessindicatorfile": f.file("ready")}
		f.refused(f.call("STATUS", "", nil), 50, "readinessindicatorfile")
	})
}

func TestVersion(t *testing.T) {
	f := newFixture(t)
	for _, stdin := range []string{`{"cniVersion":"0.4.0"}`, `{"cniVersion":"1.1.0","name":"","routing":7}`, `no json`} {
		out, err := f.node.CNI(f.Context(), nettest.CNICall{Bin: nettest.Binary(f), Command: "VERSION", Stdin: []byte(stdin)})
		f.must(err)
		f.want(out.ExitCode, 0)
	}
}

func TestGC(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	current := f.list("b", "10.51.0.0/24", nil)
	current["cniVersion"] = "1.1.0"
	f.write("conf/b.conflist", current)
	cluster := f.list("cluster", "10.0.0.0/24", nil)
	cluster["cniVersion"] = "1.1.0"
	f.write("net.d/10-cluster.conflist", cluster)
	f.networks("a,b,b").ok("ADD", "kept")
	f.ok("ADD", "lost")
	f.forget()
	valid := func(key string, list ...obj) obj { return obj{key: list} }
	// Without a list nothing is collected; with a container that no journal
	// knows, whose networks nobody can tell, only the cluster network.
	f.refused(f.call("GC", "", nil), 7, "cni.dev/valid-attachments")
	if e := f.call("GC", "", valid("cni.dev/valid-attachments", obj{"containerID": "kept", "ifname": "eth0"}, obj{"containerID": "lost", "ifname": "eth0"}, obj{"containerID": "before", "ifname": "eth0"})).Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"GC cluster "})
	f.forget()
	if e := f.call("GC", "", valid("cni.dev/valid-attachments", obj{"containerID": "kept", "ifname": "eth0"})).Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls()[:4], []string{"DEL b net3", "DEL b net2", "DEL a net1", "DEL cluster eth0"})
	lists := map[string]any{}
	for _, c := range f.called("GC") {
		lists[c.Name] = f.conf(c)["cni.dev/valid-attachments"]
	}
	f.want(lists, map[string]any{ // "a" is older than GC
		"cluster": []any{obj{"containerID": "kept", "ifname": "eth0"}},
		"b":       []any{obj{"containerID": "kept", "ifname": "net2"}, obj{"containerID": "kept", "ifname": "net3"}},
	})
	for _, network := range []string{"cluster", "a"} {
		leases, err := filepath.Glob(f.file("rec/leases/" + network + "/*"))
		f.must(err)
		f.want(len(leases), 1)
	}
	f.ok("DEL", "kept")
	// The older name of the key, and an empty list.
	f.ok("ADD", "lost")
	if e := f.call("GC", "", valid("cni.dev/attachments", []obj{}...)).Error(); e != nil {
		t.Fatal(e)
	}
	leases, err := filepath.Glob(f.file("rec/leases/*/*"))
	f.must(err)
	f.want(len(leases), 0)
}

// GC goes on past what fails, and says all of it.
func TestGCReportsAll(t *testing.T) {
	f := newFixture(t)
	f.define("z")
	for _, name := range []string{"a", "b"} {
		f.write("conf/"+name+".conflist", f.list(name, "10.70.0.0/24", obj{"ADD": []any{obj{"allocate": true}}, "DEL": []any{obj{"error": obj{"code": 999, "msg": name + " fails"}}}}))
	}
	f.networks("a,z").ok("ADD", "c1")
	f.networks("b").ok("ADD", "c2")
	f.forget()
	f.refused(f.call("GC", "", obj{"cni.dev/valid-attachments": []any{}}), 999, "a fails", "b fails", "c1", "c2")
	f.want(f.calls()[:5], []string{"DEL z net2", "DEL a net1", "DEL cluster eth0", "DEL b net1", "DEL cluster eth0"})
}
