package nodetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
)

// ConfigureKubelet sets keys of kubelet's configuration, which it reads at its
// next start. It may prepare a node, see [Cluster.AddNode].
func (n *Node) ConfigureKubelet(keys map[string]any) error {
	config := n.kubeletConfig()
	maps.Copy(config, keys)
	content, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode kubelet's configuration: %w", err)
	}
	if err = os.WriteFile(n.disk("kubelet.json"), content, 0o644); err != nil {
		return fmt.Errorf("configure kubelet: %w", err)
	}
	return nil
}
