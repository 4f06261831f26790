package routetest

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// obj is JSON as a test writes it.
type obj = map[string]any

// writeNetworks writes the cluster network and those that a pod can ask for.
//
//	red, blue                  a segment's subnet, and no route
//	red-default, blue-default  with defaults by the segment's router
//	red-halves                 with 0/1 and 128/1, and the same of IPv6
//	overlap                    on red, an address in the Service range
//
// red is by the bridge plugin, blue by macvlan.
func (w *world) writeNetworks(t *testing.T) {
	t.Helper()
	defaults := []string{"0.0.0.0/0", "::/0"}
	halves := []string{"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"}
	red, blue := obj{"type": "bridge", "bridge": "red"}, obj{"type": "macvlan", "master": "blue0"}
	w.writeNetwork(t, "cluster", "cluster", w.shape.plugin(w))
	w.writeNetwork(t, "net.d", "red", w.addressed(red, w.red, 10))
	w.writeNetwork(t, "net.d", "red-default", w.addressed(red, w.red, 50, defaults...))
	w.writeNetwork(t, "net.d", "red-halves", w.addressed(red, w.red, 90, halves...))
	w.writeNetwork(t, "net.d", "blue", w.addressed(blue, w.blue, 10))
	w.writeNetwork(t, "net.d", "blue-default", w.addressed(blue, w.blue, 50, defaults...))
	w.writeNetwork(t, "net.d", "overlap", obj{
		"type": "bridge", "bridge": "red",
		"ipam": obj{"type": "static", "addresses": []any{
			obj{"address": "10.96.0.200/24"}, obj{"address": "fd00:96::c8/112"},
		}},
	})
}

// addressed is a plugin's configuration with host-local on a segment. It gives
// out addresses from `start` on, so that no pod of a world gets one that a
// router still knows another MAC for.
func (w *world) addressed(plugin obj, seg *segment, start int, routes ...string) obj {
	first := seg.pair(strconv.Itoa(start), strconv.Itoa(start))
	gateway, subnet := seg.gateway(), seg.subnet()
	var ranges, list []any
	for _, f := range families() {
		ranges = append(ranges, []any{obj{"subnet": subnet.of(f), "rangeStart": first.of(f), "gateway": gateway.of(f)}})
	}
	for _, dst := range routes {
		list = append(list, obj{"dst": dst})
	}
	out := obj{"ipam": obj{"type": "host-local", "dataDir": w.in("ipam"), "ranges": ranges, "routes": list}}
	for key, value := range plugin {
		out[key] = value
	}
	return out
}

func (w *world) writeNetwork(t *testing.T, dir, name string, plugin obj) {
	t.Helper()
	list := obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{plugin}}
	raw, err := json.MarshalIndent(list, "", "  ")
	must(t, err)
	must(t, os.WriteFile(w.in(dir+"/"+name+".conflist"), raw, 0o644))
}

// wholeFamily is the range of all addresses of a range's family.
func wholeFamily(subnet string) string {
	if strings.Contains(subnet, ":") {
		return "::/0"
	}
	return "0.0.0.0/0"
}
