package multiplexer_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

func TestAddOrderAndNames(t *testing.T) {
	for _, c := range []struct {
		name, annotation string
		want             []string
	}{
		{"no annotation", "", nil},
		{"comma form", "a, b", []string{"ADD a net1", "ADD b net2"}},
		{"asked names", "b@data0,a", []string{"ADD b data0", "ADD a net2"}},
		{"generated steps around a later name", "a,b@net1", []string{"ADD a net2", "ADD b net1"}},
		{"generated steps around an earlier name", "a@net2,b", []string{"ADD a net2", "ADD b net3"}},
		{"one network three times", "a,a,a", []string{"ADD a net1", "ADD a net2", "ADD a net3"}},
		{"JSON form", `[{"name":"b"},{"name":"a","interface":"x1"}]`, []string{"ADD b net1", "ADD a x1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.define("a", "b")
			f.networks(c.annotation).ok("ADD", "c1")
			f.want(f.calls(), append([]string{"ADD cluster eth0"}, c.want...))
			f.forget()
			f.ok("DEL", "c1")
			var back []string
			for _, call := range slices.Backward(c.want) {
				back = append(back, strings.Replace(call, "ADD", "DEL", 1))
			}
			f.want(f.calls(), append(back, "DEL cluster eth0"))
		})
	}
}

func TestAddUsedName(t *testing.T) {
	for _, annotation := range []string{"a@eth0", "a@x,b@x"} {
		f := newFixture(t)
		f.define("a", "b")
		before := f.snapshot()
		f.refused(f.networks(annotation).call("ADD", "c1", nil), 7, "interface", "has it already")
		nettest.RequireSame(t, before, f.snapshot())
		f.want(f.calls(), []string{"ADD cluster eth0", "DEL cluster eth0"})
	}
}

// A network whose result claims the name of another: no kernel device need
// be there for it to be wrong.
func TestAddResultWithUsedName(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.write("conf/b.conflist", f.list("b", "10.9.0.0/24", obj{"ADD": []any{obj{"result": obj{
		"cniVersion": "1.0.0", "interfaces": []any{obj{"name": "net1", "sandbox": f.netns}},
	}}}}))
	f.refused(f.networks("a,b").call("ADD", "c1", nil), 7, `"net1"`, "has already")
}

func TestClusterNetwork(t *testing.T) {
	for name, set := range map[string]func(f *fixture){
		"first fit": func(*fixture) {},
		"first fit behind meta-plugins": func(f *fixture) {
			f.write("net.d/00-multiplexer.conflist", obj{"cniVersion": "1.0.0", "name": "m", "plugins": []any{obj{"type": "multiplexer"}}})
			f.write("net.d/01-multus.conf", obj{"cniVersion": "0.3.1", "name": "m", "type": "multus-shim"})
		},
		"file":      func(f *fixture) { f.config = obj{"clusterNetwork": f.file("net.d/10-cluster.conflist")} },
		"directory": func(f *fixture) { f.config = obj{"clusterNetwork": f.file("net.d")} },
		"name in clusterConfDir": func(f *fixture) {
			f.write("net.d/05-other.conflist", f.list("other", "10.8.0.0/24", nil))
			f.config = obj{"clusterNetwork": "cluster"}
		},
		"name in confDir": func(f *fixture) {
			f.must(os.Rename(f.file("net.d/10-cluster.conflist"), f.file("conf/x.conflist")))
			f.config = obj{"clusterNetwork": "cluster"}
		},
		"namespace/name": func(f *fixture) {
			f.write("conf/infra/x.conflist", f.list("cluster", "10.0.0.0/24", nil))
			f.must(os.Remove(f.file("net.d/10-cluster.conflist")))
			f.config = obj{"clusterNetwork": "infra/cluster"}
		},
		"inline": func(f *fixture) {
			f.must(os.Remove(f.file("net.d/10-cluster.conflist")))
			f.config = obj{"delegates": []any{f.list("cluster", "10.0.0.0/24", nil)}}
		},
		"plugins beside the list": func(f *fixture) {
			f.write("net.d/10-cluster.conflist", obj{"cniVersion": "1.0.0", "name": "cluster"})
			f.write("net.d/cluster/10.conf", f.plugin("10.0.0.0/24", nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			set(f)
			f.ok("ADD", "c1")
			f.want(f.calls(), []string{"ADD cluster eth0"})
		})
	}
}

func TestClusterNetworkRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set   func(f *fixture)
		code  uint
		words []string
	}{
		"none": {func(f *fixture) { f.must(os.Remove(f.file("net.d/10-cluster.conflist"))) }, 11, []string{"net.d", "clusterNetwork"}},
		"ourselves by file": {func(f *fixture) {
			f.write("own.conflist", obj{"cniVersion": "1.0.0", "name": "m", "plugins": []any{obj{"type": "multiplexer"}}})
			f.config = obj{"clusterNetwork": f.file("own.conflist")}
		}, 7, []string{"own.conflist", "meta-plugin"}},
		"ourselves inline": {func(f *fixture) {
			f.config = obj{"delegates": []any{obj{"name": "m", "type": "multus"}}}
		}, 7, []string{"delegates[0]", "meta-plugin"}},
		"half written": {func(f *fixture) { f.write("net.d/05-flannel.conflist", `{"cniVersion":`) }, 11, []string{"05-flannel.conflist", "clusterNetwork"}},
		"named twice": {func(f *fixture) {
			f.config = obj{"clusterNetwork": "cluster", "delegates": []any{f.list("cluster", "10.0.0.0/24", nil)}}
		}, 7, []string{"clusterNetwork", "delegates"}},
		"not ready": {func(f *fixture) { f.config = obj{"readinessindicatorfile": f.file("ready")} }, 11, []string{"readinessindicatorfile"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.set(f)
			before := f.snapshot()
			f.refused(f.call("ADD", "c1", nil), c.code, c.words...)
			nettest.RequireSame(t, before, f.snapshot())
			f.want(f.calls(), []string(nil))
		})
	}
}

// A network that leads back to the plugin, by another name or through
// another plugin, ends at once with a name for the culprit.
func TestLoops(t *testing.T) {
	t.Run("another name", func(t *testing.T) {
		f := newFixture(t)
		bin := t.TempDir()
		f.must(os.Symlink(nettest.Binary(t), filepath.Join(bin, "innocent")))
		f.path = append(f.path, bin)
		f.write("conf/a.conf", obj{"cniVersion": "1.0.0", "name": "a", "type": "innocent"})
		before := f.snapshot()
		f.refused(f.networks("a").call("ADD", "c1", nil), 7, "innocent", "multiplexer itself", "a.conf")
		nettest.RequireSame(t, before, f.snapshot())
	})
	t.Run("another plugin", func(t *testing.T) {
		f := newFixture(t)
		bin := t.TempDir()
		f.must(os.WriteFile(filepath.Join(bin, "wrapper"), []byte("#!/bin/sh\nexec "+nettest.Binary(t)+"\n"), 0o755))
		f.path = append(f.path, bin)
		f.write("conf/a.conf", obj{"cniVersion": "1.0.0", "name": "a", "type": "wrapper"})
		before := f.snapshot()
		f.refused(f.networks("a").call("ADD", "c1", nil), 7, "wrapper", "called by a delegate of its own")
		nettest.RequireSame(t, before, f.snapshot())
	})
}

func TestDefaultNetworks(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b", "d")
	f.config = obj{"defaultNetworks": []string{"d"}, "systemNamespaces": []string{"kube-system"}}
	f.networks("a").ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD d net1", "ADD a net2"})
	f.ok("DEL", "c1")
	f.forget()
	f.args = strings.Replace(f.args, "=shop", "=kube-system", 1)
	f.networks("a").ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD a net1"})
}

func TestInlineDelegatesBeyondTheFirst(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.config = obj{"delegates": []any{f.list("cluster", "10.0.0.0/24", nil), f.list("second", "10.7.0.0/24", nil)}}
	f.networks("a").ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD second net1", "ADD a net2"})
}

// A prevResult at ADD is the cluster network's part: kept, not attached again.
func TestPrevResult(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	prev := obj{
		"cniVersion": "1.0.0", "interfaces": []any{obj{"name": "eth0", "sandbox": f.netns}},
		"ips": []any{obj{"address": "10.244.0.9/24", "interface": 0}},
	}
	out := f.networks("a").call("ADD", "c1", obj{"prevResult": prev})
	if e := out.Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"ADD a net1"})
	result, err := out.Result()
	f.must(err)
	f.want(result.IPs[0].Address.String(), "10.244.0.9/24")
	f.want(result.Interfaces[1].Name, "net1")
	f.forget()
	if e := f.call("DEL", "c1", obj{"prevResult": prev}).Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"DEL a net1"})
}
