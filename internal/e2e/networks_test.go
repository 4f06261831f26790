package e2e

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// The networks of pods, beside flannel.
//
// fast is a macvlan on eth1. Its definition has no config: each node has its
// own file, with its own part of the ranges, so that host-local of one node
// does not give away what another has given.
//
// bulk is a bridge of the nodes that eth2 is a port of; a pod says which
// addresses it has there.
//
// wan is a macvlan on eth1 too, whose gateway leads to the world outside.
const (
	fast = "default/fast"
	bulk = "default/bulk"
	wan  = "default/wan"
)

// addNetworks is what a node's administrator does beforehand.
func addNetworks(n *nodetest.Node, number int) error {
	ranges := [][]map[string]string{
		{{"subnet": "10.71.0.0/24", "rangeStart": fmt.Sprintf("10.71.0.%d", 2+120*number), "rangeEnd": fmt.Sprintf("10.71.0.%d", 121+120*number)}},
		{{"subnet": "fd00:71::/64", "rangeStart": fmt.Sprintf("fd00:71::%d:1", 1+number), "rangeEnd": fmt.Sprintf("fd00:71::%d:ffff", 1+number)}},
	}
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "fast",
		"plugins": []any{map[string]any{
			"type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": map[string]any{"type": "host-local", "ranges": ranges},
		}},
	})
	if err != nil {
		return err
	}
	return errors.Join(n.Write("/etc/cni/multiplexer/net.d/fast.conflist", string(conf)), n.Do(makeBridge))
}

func makeBridge() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bulk0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	port, err := netlink.LinkByName("eth2")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMaster(port, bridge), netlink.LinkSetUp(bridge))
}

// definitions are the networks' objects.
func definitions() []string {
	configs := map[string]string{
		"fast": ``,
		"bulk": `{"cniVersion":"1.0.0","name":"bulk","type":"bridge","bridge":"bulk0","capabilities":{"ips":true},"ipam":{"type":"static"}}`,
		"wan":  `{"cniVersion":"1.0.0","name":"wan","type":"macvlan","master":"eth1","mode":"bridge","capabilities":{"ips":true},"ipam":{"type":"static"}}`,
	}
	var documents []string
	for name, config := range configs {
		documents = append(documents, fmt.Sprintf(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":%q},"spec":{"config":%q}}`, name, config))
	}
	return documents
}
