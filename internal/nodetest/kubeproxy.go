package nodetest

import (
	"fmt"
	"path/filepath"
)

// StartKubeProxy starts kube-proxy on the node: from then on the addresses of
// Services answer, that of the API server included.
func (n *Node) StartKubeProxy() error {
	cred, err := n.cluster.User("system:kube-proxy")
	if err != nil {
		return err
	}
	kubeconfig, err := n.kubeconfig("kube-proxy.kubeconfig", cred)
	if err != nil {
		return err
	}
	n.KubeProxy = n.process("kube-proxy", filepath.Join(n.cluster.binaries, "kube-proxy"),
		"--kubeconfig="+kubeconfig,
		"--hostname-override="+n.Name,
		"--proxy-mode=nftables",
		fmt.Sprintf("--cluster-cidr=%s,%s", podRange, podRange6),
		// These settings are the machine's, not the node's.
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
	)
	return n.KubeProxy.Start()
}
