package runtimetest

import "testing"

// gatewayed is a plugin's configuration with static addresses of both
// families, gateways at .1, and routes.
func gatewayed(plugin object, routes ...object) object {
	plugin["ipam"] = object{"type": "static", "routes": routes, "addresses": []object{
		{"address": "192.168.90.9/24", "gateway": "192.168.90.1"}, {"address": "fd00:90::9/64", "gateway": "fd00:90::1"},
	}}
	return plugin
}

// CHECK right behind ADD, which CRI-O always makes, agrees with what the
// routing rules did to what the plugins had set; and the pod's addresses
// stay those of the cluster network.
func TestCheckAfterRouting(t *testing.T) {
	t.Parallel()
	four, six := object{"dst": "0.0.0.0/0"}, object{"dst": "::/0"}
	halves := []object{{"dst": "0.0.0.0/1"}, {"dst": "128.0.0.0/1"}, {"dst": "::/1"}, {"dst": "8000::/1"}}
	bridge := func(routes ...object) object { return gatewayed(object{"type": "bridge", "bridge": "wan0"}, routes...) }
	asked := `[{"name":"wan","default-route":["192.168.90.1","192.168.90.2","fd00:90::1"]}]`
	for name, test := range map[string]struct {
		annotation string
		plugins    []object
	}{
		"a default of its own":   {"wan", []object{bridge(four, six)}},
		"halves":                 {"wan", []object{bridge(halves...)}},
		"ptp":                    {"wan", []object{gatewayed(object{"type": "ptp"}, four, six)}},
		"sbr":                    {"wan", []object{bridge(four, six, object{"dst": "10.99.0.0/16"}), {"type": "sbr"}}},
		"tuning":                 {"wan", []object{bridge(four), {"type": "tuning", "mtu": 1400, "sysctl": object{"net.ipv4.conf.IFNAME.arp_ignore": "0"}}}},
		"a route of a table":     {"wan", []object{bridge(four, object{"dst": "10.98.0.0/16", "table": 77})}},
		"the default moves":      {asked, []object{bridge(four, six)}},
		"the default moves, sbr": {asked, []object{bridge(), {"type": "sbr"}}},
		"it keeps its own":       {`[{"name":"wan","default-route":[]}]`, []object{bridge(halves...)}},
	} {
		for _, runtime := range []string{containerd, crio} {
			t.Run(runtime+", "+name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.multiplexer(func(_, plugin object) {
					plugin["runtime"] = runtime
					plugin["clusterCIDRs"] = []string{"10.244.0.0/16", "10.96.0.0/12", "fd00:10:244::/48", "fd00:10:96::/112"}
				})
				s.cluster("1.0.0", s.bridge("cluster0", "10.244.7.0/24", "fd00:10:244:7::/64"))
				s.network("1.0.0", "wan", test.plugins...)
				s.start(runtime)
				before := s.settled(test.annotation)
				pod, ns := s.newPod("web", test.annotation)
				reply := s.setup(pod)
				s.check(pod)
				want(t, "addresses as kubelet takes them", kubeletIPs(reply.IPs), []string{"10.244.7.3", "fd00:10:244:7::3"})
				s.remove(pod)
				want(t, "interfaces after the pod's end", s.interfaces(ns), nil)
				s.same(before)
			})
		}
	}
}
