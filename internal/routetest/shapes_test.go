package routetest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

// shape is a kind of cluster network.
type shape struct {
	name     string
	families []family // that the pod has an address of on eth0
	plugin   func(w *world) obj
	sample   string // the test that runs over it in the guest; "" = each does
}

// shapes are the cluster networks that the tests run over.
func shapes() []*shape {
	return []*shape{
		{
			name: "bridge", families: families(),
			plugin: func(w *world) obj { return bridged(w, clusterSubnet().all()...) },
		},
		{
			name: "calico", families: families(), sample: "TestServerAnswersByTheNICOfTheRequest",
			plugin: func(*world) obj {
				return obj{"type": "shape", "style": "calico", "addresses": []string{"10.244.1.7/32", "fd00:244:1::7/128"}}
			},
		},
		{
			name: "cilium", families: families(), sample: "TestServerAnswersByTheNICOfTheRequest",
			plugin: func(*world) obj {
				return obj{
					"type": "shape", "style": "cilium",
					"addresses": []string{"10.244.1.7/32", "fd00:244:1::7/128"},
					"gateways":  []string{"10.244.1.1", "fd00:244:1::1"},
				}
			},
		},
		{
			name: "ipv6", families: []family{v6}, sample: "TestFamilyWithoutADefaultIsLent",
			plugin: func(w *world) obj { return bridged(w, clusterSubnet().v6) },
		},
	}
}

// clusterSubnet is the node's slice of the pods' range.
func clusterSubnet() pair { return pair{"10.244.1.0/24", "fd00:244:1::/64"} }

// bridged is the reference bridge plugin as a cluster network.
func bridged(w *world, subnets ...string) obj {
	var ranges, routes []any
	for _, subnet := range subnets {
		ranges = append(ranges, []any{obj{"subnet": subnet}})
		routes = append(routes, obj{"dst": wholeFamily(subnet)})
	}
	return obj{
		"type": "bridge", "bridge": "cni0", "isGateway": true,
		"ipam": obj{"type": "host-local", "dataDir": w.in("ipam"), "ranges": ranges, "routes": routes},
	}
}

// has reports whether eth0 has an address of the family.
func (s *shape) has(f family) bool {
	for _, each := range s.families {
		if each == f {
			return true
		}
	}
	return false
}

// overShapes runs a test in a world of its own for each shape. In the guest
// another kernel is all that is new, and everything takes ten times as long:
// each test runs over the first shape there, and one over each of the others,
// for /32 addresses with a gateway on the link, and for a missing family.
func overShapes(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, s := range shapes() {
		if guest.Inside() && s.sample != "" && s.sample != t.Name() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, s))
		})
	}
}
