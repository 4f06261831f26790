package nodetest

import (
	"errors"
	"fmt"
)

// InstallFlannel makes flannel the node's cluster network, with the conflist
// that its DaemonSet writes, and nothing of multiplexer. The part of its
// daemon is played by the harness: /run/flannel/subnet.env, and the routes
// between the nodes that its backend host-gw sets.
func (n *Node) InstallFlannel() error {
	conf := map[string]any{
		"name": "cbr0", "cniVersion": "0.3.1",
		"plugins": []any{
			map[string]any{"type": "flannel", "delegate": map[string]any{"hairpinMode": true, "isDefaultGateway": true}},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}
	return errors.Join(n.InstallReferencePlugins(), n.writeJSON("/etc/cni/net.d/10-flannel.conflist", conf))
}

// writeSubnetEnv writes what flannel's plugin makes its bridge of, anew at
// each boot, as its daemon does.
func (n *Node) writeSubnetEnv() error {
	return n.Write("/run/flannel/subnet.env", fmt.Sprintf(`FLANNEL_NETWORK=%s
FLANNEL_SUBNET=%s/24
FLANNEL_IPV6_NETWORK=%s
FLANNEL_IPV6_SUBNET=%s/64
FLANNEL_MTU=1500
FLANNEL_IPMASQ=true
`, podRange, n.Pods.Addr().Next(), podRange6, n.Pods6.Addr().Next()))
}
