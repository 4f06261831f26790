package agenttest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// ofNode starts the agent on another node of the cluster.
func (n *Node) ofNode(name, runtime string, flags ...string) {
	n.Helper()
	n.Apply(obj{"apiVersion": "v1", "kind": "Node", "metadata": obj{"name": name}, "spec": obj{"podCIDRs": []string{"10.77.0.0/24"}}})
	n.patch("/api/v1/nodes/"+name+"/status", obj{"status": obj{
		"addresses": []any{obj{"type": "InternalIP", "address": "192.0.2.7"}, obj{"type": "Hostname", "address": name}},
		"nodeInfo":  obj{"containerRuntimeVersion": runtime},
	}})
	n.Flags = append([]string{"--node-name", name}, flags...)
	n.StartAgent()
	n.WaitReady()
}

// bridged is a network of a real bridge with addresses of its own.
func bridged(name, bridge string, addresses ...string) obj {
	var list []any
	for _, a := range addresses {
		address, gateway, _ := strings.Cut(a, " via ")
		list = append(list, obj{"address": address, "gateway": gateway})
	}
	return obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{obj{"type": "bridge", "bridge": bridge, "ipam": obj{
		"type": "static", "addresses": list, "routes": []any{obj{"dst": "0.0.0.0/0"}},
	}}}}
}

// What the cluster says of itself leaves a pod by the cluster network: the
// node's slice and addresses, the Services' ranges, and what the agent is
// told.
func TestRangesOfTheCluster(t *testing.T) {
	t.Parallel()
	n := New(t, cluster)
	n.ofNode("facts-ranges", "containerd://2.1.0", "--cluster-cidrs", "10.240.0.0/13,fd00:240::/32")
	n.cluster(bridged("cluster", "cni0", "10.77.0.3/24 via 10.77.0.1"))
	n.Define("shop", "facts-wan", bridged("facts-wan", "br-a", "10.50.0.9/24 via 10.50.0.1"), "")
	n.Config = obj{"routing": obj{"strict": true}}
	p := n.Pod("facts-ranges", `[{"name":"facts-wan","default-route":["10.50.0.1"]}]`)
	n.OK("ADD", p)
	handle, err := p.NS.Handle()
	n.must(err)
	rules, err := handle.RuleList(netlink.FAMILY_V4)
	n.must(err)
	to := map[string]bool{}
	for _, r := range rules {
		if r.Priority == 30100 && r.Dst != nil {
			to[fmt.Sprintf("%s table %d", r.Dst, r.Table)] = true
		}
	}
	for _, want := range []string{"10.240.0.0/13", "10.77.0.0/24", "10.96.0.0/16", "192.0.2.7/32"} {
		if !to[want+" table 30000"] {
			t.Errorf("%s is none of the ranges that leave by the cluster network: %v", want, to)
		}
	}
	n.OK("CHECK", p)
	// With the agent gone the ranges are those of its last word.
	n.KillAgent()
	n.lastWord("10.240.0.0/13", true)
	n.OK("DEL", p)
}

// CRI-O takes every address of the result for the pod's own: one of a family
// that the cluster network lacks is withheld there, and only there.
func TestRuntimeOfTheNode(t *testing.T) {
	for name, test := range map[string]struct {
		runtime string
		want    []string
	}{
		"facts-containerd": {"containerd://2.1.0", []string{"10.77.0.3/24", "10.50.0.9/24", "fd50::9/64"}},
		"facts-crio":       {"cri-o://1.34.0", []string{"10.77.0.3/24", "10.50.0.9/24"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := New(t, cluster)
			n.ofNode(name, test.runtime)
			n.cluster(bridged("cluster", "cni0", "10.77.0.3/24 via 10.77.0.1"))
			n.Define("shop", name, bridged(name, "br-a", "10.50.0.9/24 via 10.50.0.1", "fd50::9/64 via fd50::1"), "")
			p := n.Pod(name, name)
			result, err := n.OK("ADD", p).Result()
			n.must(err)
			var got []string
			for _, ip := range result.IPs {
				got = append(got, ip.Address.String())
			}
			n.same(got, test.want)
			n.OK("DEL", p)
		})
	}
}
