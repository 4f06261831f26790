package multiplexer_test

import (
	"encoding/json"
	"testing"
)

// parts returns a fixture whose cluster network and network a answer with
// fixed results.
func parts(t *testing.T, cluster, a obj) *fixture {
	f := newFixture(t)
	for _, r := range []obj{cluster, a} {
		if interfaces, ok := r["interfaces"].([]any); ok {
			for _, i := range interfaces {
				if iface := i.(obj); iface["sandbox"] != nil {
					iface["sandbox"] = f.netns
				}
			}
		}
	}
	answer := func(r obj) obj { return obj{"ADD": []any{obj{"result": r}}, "DEL": []any{}} }
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", answer(cluster)))
	f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", answer(a)))
	return f.networks("a")
}

func clusterResult() obj {
	return obj{
		"cniVersion": "1.0.0",
		"interfaces": []any{obj{"name": "cbr0", "mac": "02:00:00:00:01:00"}, obj{"name": "eth0", "mac": "02:00:00:00:01:01", "sandbox": "x"}},
		"ips":        []any{obj{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1}},
		"routes":     []any{obj{"dst": "0.0.0.0/0"}},
		"dns":        obj{"nameservers": []any{"10.96.0.10"}, "domain": "cluster.local"},
	}
}

func secondResult() obj {
	return obj{
		"cniVersion": "1.0.0",
		"interfaces": []any{obj{"name": "hostside"}, obj{"name": "net1", "mac": "02:00:00:00:02:01", "mtu": 9000, "pciID": "0000:03:02.1", "socketPath": "/s", "sandbox": "x"}},
		"ips": []any{
			obj{"address": "192.168.1.5/24", "gateway": "192.168.1.1"},
			obj{"address": "fd00:1::5/64", "interface": 1},
		},
		"routes": []any{
			obj{"dst": "172.16.0.0/12"},
			obj{"dst": "172.20.0.0/16", "gw": "192.168.1.9", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 100, "scope": 0},
			obj{"dst": "fd00:2::/64"},
		},
		"dns": obj{"nameservers": []any{"192.168.1.53"}, "domain": "second", "search": []any{"s"}, "options": []any{"ndots:1"}},
	}
}

func (f *fixture) merged() obj {
	f.Helper()
	var out obj
	f.must(json.Unmarshal(f.ok("ADD", "c1").Stdout, &out))
	return out
}

func TestMergedResult(t *testing.T) {
	f := parts(t, clusterResult(), secondResult())
	f.want(f.merged(), obj{
		"cniVersion": "1.1.0",
		"interfaces": []any{
			obj{"name": "cbr0", "mac": "02:00:00:00:01:00"}, obj{"name": "eth0", "mac": "02:00:00:00:01:01", "sandbox": f.netns},
			obj{"name": "hostside"}, obj{"name": "net1", "mac": "02:00:00:00:02:01", "mtu": 9000.0, "pciID": "0000:03:02.1", "socketPath": "/s", "sandbox": f.netns},
		},
		"ips": []any{
			obj{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1.0},
			obj{"address": "192.168.1.5/24", "gateway": "192.168.1.1", "interface": 3.0},
			obj{"address": "fd00:1::5/64", "interface": 3.0},
		},
		"routes": []any{
			obj{"dst": "0.0.0.0/0"}, // the cluster network's values stay as they are
			obj{"dst": "172.16.0.0/12", "gw": "192.168.1.1"},
			obj{"dst": "172.20.0.0/16", "gw": "192.168.1.9", "mtu": 1400.0, "advmss": 1300.0, "priority": 7.0, "table": 100.0, "scope": 0.0},
			obj{"dst": "fd00:2::/64"},
		},
		"dns": obj{"nameservers": []any{"10.96.0.10", "192.168.1.53"}, "domain": "cluster.local", "search": []any{"s"}, "options": []any{"ndots:1"}},
	})
}

func TestResultVersions(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		f := parts(t, clusterResult(), secondResult())
		f.version = version
		got := f.merged()
		f.want(got["cniVersion"], any(version))
		f.want(len(got["ips"].([]any)), 3)
		f.want(got["ips"].([]any)[1].(obj)["interface"], any(3.0))
	}
	for _, version := range []string{"0.1.0", "0.2.0"} {
		f := parts(t, clusterResult(), secondResult())
		f.version = version
		got := f.merged()
		f.want(got["cniVersion"], any(version))
		f.want(got["ip4"], any(obj{"ip": "10.0.0.5/24", "gateway": "10.0.0.1", "routes": []any{obj{"dst": "0.0.0.0/0"}}}))
		f.want(got["ip6"], nil)
	}
}

func TestResultOfTheClusterNetworkOnly(t *testing.T) {
	f := parts(t, clusterResult(), secondResult())
	f.config = obj{"result": "cluster"}
	got := f.merged()
	f.want(len(got["interfaces"].([]any)), 2)
	f.want(len(got["ips"].([]any)), 1)
}

// CRI-O takes every address, and kubelet the first of each family for the
// pod's own.
func TestResultForCRIO(t *testing.T) {
	f := parts(t, clusterResult(), secondResult())
	f.config = obj{"runtime": "cri-o"}
	got := f.merged()
	f.want(len(got["interfaces"].([]any)), 4)
	f.want(got["ips"], any([]any{
		obj{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1.0},
		obj{"address": "192.168.1.5/24", "gateway": "192.168.1.1", "interface": 3.0},
	}))
}

// containerd keys interfaces by name: a host-side eth0 must not replace the
// pod's.
func TestResultWithHostSideEth0(t *testing.T) {
	second := secondResult()
	second["interfaces"].([]any)[0].(obj)["name"] = "eth0"
	f := parts(t, clusterResult(), second)
	got := f.merged()
	f.want(len(got["interfaces"].([]any)), 3)
	f.want(got["ips"].([]any)[1].(obj)["interface"], any(2.0))
}

// Delegates of every version, whose old results name neither interface nor
// index.
func TestDelegateVersions(t *testing.T) {
	for _, version := range []string{"", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		f := newFixture(t)
		conf := f.list("a", "10.50.0.0/24", nil)
		conf["cniVersion"] = version
		f.write("conf/a.conflist", conf)
		f.networks("a")
		got := f.merged()
		interfaces, ips := got["interfaces"].([]any), got["ips"].([]any)
		if version == "" {
			version = "0.1.0"
		}
		f.want(f.conf(f.called("ADD")[1])["cniVersion"], any(version))
		f.want(ips[1].(obj)["address"], any("10.50.0.2/24"))
		last := interfaces[len(interfaces)-1].(obj)
		f.want(last["name"], any("net1"))
		f.want(last["sandbox"], any(f.netns))
		f.want(ips[1].(obj)["interface"], any(float64(len(interfaces)-1)))
		f.ok("DEL", "c1")
		prev := f.conf(f.called("DEL")[0])["prevResult"]
		f.want(prev != nil, version >= "0.4.0")
	}
	f := newFixture(t)
	conf := f.list("a", "10.50.0.0/24", nil)
	conf["cniVersions"] = []string{"0.4.0", "1.1.0", "2.0.0"}
	f.write("conf/a.conflist", conf)
	f.networks("a").ok("ADD", "c1")
	f.want(f.conf(f.called("ADD")[1])["cniVersion"], any("1.1.0"))
}
