package agenttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Account is the agent's user at the API server.
const Account = "system:serviceaccount:kube-system:multiplexer"

// Name is the node's name in the cluster.
const Name = "node-a"

// Node is a node with the plugin and the agent on it. Its networks are
// recorders unless a test says otherwise.
type Node struct {
	testing.TB
	Cluster *kubetest.Cluster
	Kubelet *kubelettest.Kubelet
	Host    *nettest.Node
	Dir     string // short: sockets are in it
	Path    []string
	Config  map[string]any // of the plugin, over the defaults
	Flags   []string       // of the agent, behind the defaults
	Bin     string         // the plugin; "" = of these sources
	Program string         // the agent; "" = of these sources

	kubeconfig string
	agent      *agent
	worked     atomic.Int64 // the clock of awake
	late       atomic.Bool  // a plugin said that a status comes later
	frozen     atomic.Bool  // the agent answers nobody
}

// Prepare puts the definitions' CRD, the rights that deploy/ grants and the
// node itself into a cluster.
func Prepare(cluster *kubetest.Cluster, deploy string) error {
	rights, err := os.ReadFile(filepath.Join(deploy, "rbac.yaml"))
	if err != nil {
		return err
	}
	node := fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q},"spec":{"podCIDRs":["10.244.7.0/24"]}}`, Name)
	namespace := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`
	if err = cluster.Apply(string(rights), kubetest.DefinitionsCRD(), node, namespace); err != nil {
		return err
	}
	for _, access := range []kubetest.Access{
		{User: Account, Verb: "watch", Group: "k8s.cni.cncf.io", Resource: "network-attachment-definitions"},
		{User: Account, Verb: "patch", Resource: "events"},
	} {
		if err = cluster.WaitAllowed(access); err != nil {
			return err
		}
	}
	return nil
}

// New returns a node of a prepared cluster; its agent is not started yet.
func New(tb testing.TB, cluster *kubetest.Cluster) *Node {
	tb.Helper()
	dir, err := os.MkdirTemp("", "mx")
	if err != nil {
		tb.Fatal(err)
	}
	n := &Node{TB: tb, Cluster: cluster, Host: nettest.HostNode(tb), Dir: dir}
	tb.Cleanup(func() { n.must(os.RemoveAll(dir)) })
	n.tick()
	n.Kubelet = kubelettest.Start(tb, dir)
	n.Path = []string{nettest.RecorderAs(tb, "recorder"), nettest.Plugins(tb)}
	for _, d := range []string{"net.d", "conf", "rec/leases", "state", "netns"} {
		n.must(os.MkdirAll(n.File(d), 0o755))
	}
	cluster0, err := json.Marshal(n.List("cluster", "10.0.0.0/16"))
	n.must(err)
	n.must(os.WriteFile(n.File("net.d/10-cluster.conflist"), cluster0, 0o644))
	n.kubeconfig = n.File("kubeconfig")
	n.must(cluster.Kubeconfig(n.kubeconfig, kubetest.Credential{Token: cluster.RequireToken(tb, "kube-system", "multiplexer")}))
	return n
}

func (n *Node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// File is a path in the node's directory.
func (n *Node) File(name string) string { return filepath.Join(n.Dir, name) }

// Socket is where the agent listens.
func (n *Node) Socket() string { return n.File("agent.sock") }

// List is a recorder's network.
func (n *Node) List(name, subnet string) map[string]any {
	return map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": []any{
		map[string]any{"type": "recorder", "dir": n.File("rec"), "subnet": subnet},
	}}
}

// Stepped is List with steps instead of what a recorder does by default.
func (n *Node) Stepped(name, subnet string, steps map[string]any) map[string]any {
	return n.With(n.List(name, subnet), "steps", steps)
}

// With sets a key of a list's only plugin.
func (n *Node) With(list map[string]any, key string, value any) map[string]any {
	list["plugins"].([]any)[0].(map[string]any)[key] = value
	return list
}

// Namespace creates or changes a namespace of the cluster, with networks of
// its own unless they are "".
func (n *Node) Namespace(name, networks string) {
	n.Helper()
	annotations := map[string]string{}
	if networks != "" {
		annotations["k8s.v1.cni.cncf.io/networks"] = networks
	}
	n.Apply(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "annotations": annotations}})
}

// Define creates a NetworkAttachmentDefinition; config nil leaves spec.config
// out, resource "" the annotation.
func (n *Node) Define(namespace, name string, config any, resource string) {
	n.Helper()
	object := map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": map[string]any{},
	}
	if resource != "" {
		object["metadata"].(map[string]any)["annotations"] = map[string]string{"k8s.v1.cni.cncf.io/resourceName": resource}
	}
	if config != nil {
		raw, err := json.Marshal(config)
		n.must(err)
		object["spec"] = map[string]any{"config": string(raw)}
	}
	n.Apply(object)
}

// Apply creates or changes an object.
func (n *Node) Apply(object any) {
	n.Helper()
	raw, err := json.Marshal(object)
	n.must(err)
	n.Cluster.RequireApply(n, string(raw))
}

// configuration is the plugin's, as the runtime delivers it.
func (n *Node) configuration(annotations map[string]string) []byte {
	conf := map[string]any{
		"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": n.Socket(),
		"clusterConfDir": n.File("net.d"), "confDir": n.File("conf"), "stateDir": n.File("state"),
		"runtimeConfig": map[string]any{"io.kubernetes.cri.pod-annotations": annotations},
	}
	maps.Copy(conf, n.Config)
	maps.DeleteFunc(conf, func(_ string, v any) bool { return v == nil })
	raw, err := json.Marshal(conf)
	n.must(err)
	return raw
}
