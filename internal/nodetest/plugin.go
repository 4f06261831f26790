package nodetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// InstallPlugin puts the reference plugins, the recorder and multiplexer into
// the node's /opt/cni/bin, and into /etc/cni/net.d a cluster network, a
// bridge, and the conf that puts multiplexer before it. config are keys of
// that conf over the defaults.
func (n *Node) InstallPlugin(config map[string]any) error {
	if err := n.InstallReferencePlugins(); err != nil {
		return err
	}
	binary, err := nettest.BinaryPath()
	if err != nil {
		return err
	}
	recorder, err := nettest.BuildRecorder()
	if err != nil {
		return err
	}
	for _, program := range []string{binary, filepath.Join(recorder, "recorder")} {
		if err = n.Copy(program, "/opt/cni/bin/"+filepath.Base(program)); err != nil {
			return err
		}
	}
	if err = n.writeJSON("/etc/cni/net.d/10-cluster.conflist", n.clusterNetwork()); err != nil {
		return err
	}
	entry := map[string]any{
		"type":           "multiplexer",
		"clusterNetwork": "/etc/cni/net.d/10-cluster.conflist",
		"clusterCIDRs":   []string{"10.244.0.0/16", "10.96.0.0/16"},
		"capabilities":   map[string]bool{"io.kubernetes.cri.pod-annotations": true},
	}
	maps.Copy(entry, config)
	return n.writeJSON("/etc/cni/net.d/00-multiplexer.conflist", map[string]any{
		"cniVersion": "1.0.0", "cniVersions": []string{"1.0.0", "1.1.0"}, "name": "cluster", "plugins": []any{entry},
	})
}

// InstallReferencePlugins puts the reference plugins into /opt/cni/bin.
func (n *Node) InstallReferencePlugins() error {
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return err
	}
	return n.Copy(plugins+"/.", "/opt/cni/bin/")
}

// Copy copies a file of the machine, or what is in a directory, to the node.
// A program does it: a child that this process forks meanwhile would hold an
// executable open for writing, and then it cannot be run.
func (n *Node) Copy(from, to string) error {
	if _, err := n.Output("mkdir", "-p", filepath.Dir(to+"x")); err != nil {
		return err
	}
	_, err := n.Output("cp", "-rLf", from, to)
	return err
}

// Write writes a file of the node as a whole, and the directories above it.
func (n *Node) Write(path, content string) error {
	path = n.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Not one of the names that a runtime or a kubelet reads.
	hidden := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path)+".tmp")
	if err := os.WriteFile(hidden, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(hidden, path)
}

func (n *Node) writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return n.Write(path, string(content)+"\n")
}

func (n *Node) clusterNetwork() map[string]any {
	return map[string]any{
		"cniVersion": "1.0.0", "name": "cluster",
		"plugins": []any{map[string]any{
			"type": "bridge", "bridge": "cluster0", "isDefaultGateway": true, "hairpinMode": true,
			"ipam": map[string]any{"type": "host-local", "ranges": [][]any{{map[string]string{"subnet": n.Pods.String()}}}},
		}},
	}
}

// AgentAccount is the agent's user at the API server; deploy/rbac.yaml makes
// it and says what it may do.
const AgentAccount = "system:serviceaccount:kube-system:multiplexer"

// StartAgent starts multiplexerd on the node, with its defaults and the flags.
// An agent that runs is replaced.
func (n *Node) StartAgent(flags ...string) error {
	if n.Agent != nil && n.Agent.Running() {
		if err := n.Agent.Stop(); err != nil {
			return err
		}
	}
	binary, err := nettest.AgentPath()
	if err != nil {
		return err
	}
	token, err := n.cluster.Token("kube-system", "multiplexer")
	if err != nil {
		return err
	}
	kubeconfig, err := n.kubeconfig("agent.kubeconfig", kubetest.Credential{Token: token})
	if err != nil {
		return err
	}
	n.Agent = n.process("multiplexerd", binary, append([]string{"run", "--node-name", n.Name, "--kubeconfig", kubeconfig}, flags...)...)
	return n.Agent.Start()
}

// WaitAgent returns when the agent is ready.
func (n *Node) WaitAgent() error {
	client := n.httpClient()
	defer client.CloseIdleConnections()
	err := kubetest.Poll(patience, func() (bool, error) {
		if !n.Agent.Running() {
			return true, fmt.Errorf("it ended: %s", n.Agent.tail(0))
		}
		answer, err := client.Get("http://127.0.0.1:9745/readyz")
		if err != nil {
			return false, err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return false, fmt.Errorf("/readyz: HTTP %d", answer.StatusCode)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the agent of %s: %w", n.Name, err)
	}
	return nil
}
