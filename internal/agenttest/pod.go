package agenttest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Pod is a pod at the API server, and its sandbox.
type Pod struct {
	Namespace, Name, UID string
	Annotations          map[string]string
	Container            string
	Netns                string
	NS                   *nettest.NS // behind Netns, unless a test made its own
}

// Pod creates a pod of the namespace shop that asks for networks, and its
// network namespace.
func (n *Node) Pod(name, networks string) *Pod {
	n.Helper()
	p := n.NewPod("shop", name, networks)
	n.CreatePod(p)
	return p
}

// NewPod is a pod that the API server does not know yet, and its network
// namespace.
func (n *Node) NewPod(namespace, name, networks string) *Pod {
	n.Helper()
	p := &Pod{Namespace: namespace, Name: name, Annotations: map[string]string{}, Container: "c-" + name, NS: nettest.Namespace(n, "pod-")}
	if networks != "" {
		p.Annotations["k8s.v1.cni.cncf.io/networks"] = networks
	}
	p.Netns = p.NS.Path()
	return p
}

// CreatePod creates the pod at the API server, on this node, and takes its UID.
func (n *Node) CreatePod(p *Pod) {
	n.Helper()
	n.must(n.createPodOn(Name, p))
}

// createPodOn is CreatePod, on any node.
func (n *Node) createPodOn(node string, p *Pod) error {
	object := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": p.Name, "namespace": p.Namespace, "annotations": p.Annotations},
		"spec": map[string]any{"nodeName": node, "automountServiceAccountToken": false, "containers": []any{map[string]any{"name": "app", "image": "none"}}},
	}
	answer, err := n.Cluster.Do("POST", "/api/v1/namespaces/"+p.Namespace+"/pods", object)
	if err != nil {
		return err
	}
	var created struct{ Metadata struct{ UID string } }
	err = answer.Into(&created)
	p.UID = created.Metadata.UID
	return err
}

// DeletePod deletes the pod at the API server, at once.
func (n *Node) DeletePod(p *Pod) {
	n.Helper()
	n.must(n.deletePod(p))
}

func (n *Node) deletePod(p *Pod) error {
	answer, err := n.Cluster.Do("DELETE", "/api/v1/namespaces/"+p.Namespace+"/pods/"+p.Name+"?gracePeriodSeconds=0", nil)
	if err != nil {
		return err
	}
	return answer.Err()
}

// Call is the plugin's call for a pod, as a runtime makes it.
func (n *Node) Call(verb string, p *Pod) nettest.CNICall {
	return nettest.CNICall{
		Bin: n.bin(), Command: verb, ContainerID: p.Container, Netns: p.Netns, IfName: "eth0", Path: n.Path, Stdin: n.configuration(p.Annotations),
		Args: fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s", p.Namespace, p.Name, p.UID),
	}
}

func (n *Node) bin() string {
	if n.Bin != "" {
		return n.Bin
	}
	return nettest.Binary(n)
}

// Run makes a call and waits for its end.
func (n *Node) Run(verb string, p *Pod) nettest.Outcome {
	n.Helper()
	out, _ := n.timed(verb, p)
	return out
}

// timed is Run, and says how long the call took. The plugin's patience with
// the agent goes by the clock: where the machine stood still for a part of it,
// an ADD that is to be tried again later is, as a runtime does.
func (n *Node) timed(verb string, p *Pod) (out nettest.Outcome, took time.Duration) {
	n.Helper()
	for tries := 1; ; tries++ {
		var err error
		start, since := time.Now(), n.awake()
		out, err = n.Host.CNI(n.Context(), n.Call(verb, p))
		took = since()
		n.must(err)
		if strings.Contains(string(out.Stderr), "network-status comes later") {
			n.late.Store(true)
		}
		e := out.Error()
		again := verb == "ADD" && e != nil && e.Code == 11 && time.Since(start)-took > time.Second
		if !again || tries == 5 || n.frozen.Load() {
			return out, took
		}
		n.Logf("ADD %s is made again, the machine stood still: %s", p.Name, e)
	}
}

// OK is Run, and fails the test when the call did.
func (n *Node) OK(verb string, p *Pod) nettest.Outcome {
	n.Helper()
	out := n.Run(verb, p)
	if e := out.Error(); e != nil {
		n.Fatalf("%s %s: %s\n%s", verb, p.Name, e, out.Stderr)
	}
	return out
}

// Refused fails the test unless the call failed with a code, and says all the
// words.
func (n *Node) Refused(out nettest.Outcome, code uint, words ...string) {
	n.Helper()
	e := out.Error()
	if e == nil || e.Code != code {
		n.Fatalf("want error %d, got %v\n%s", code, e, out.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg, w) {
			n.Errorf("%q lacks %q", e.Msg, w)
		}
	}
}

// Status is the pod's network-status at the API server; nil when it has none.
func (n *Node) Status(p *Pod) []map[string]any {
	n.Helper()
	answer, err := n.Cluster.Do("GET", "/api/v1/namespaces/"+p.Namespace+"/pods/"+p.Name, nil)
	n.must(err)
	n.must(answer.Err())
	var pod struct {
		Metadata struct{ Annotations map[string]string }
	}
	n.must(answer.Into(&pod))
	value, ok := pod.Metadata.Annotations["k8s.v1.cni.cncf.io/network-status"]
	if !ok {
		return nil
	}
	var status []map[string]any
	n.must(json.Unmarshal([]byte(value), &status))
	return status
}

// Shown is Status of a pod that is attached: it is there when its ADD ends,
// unless the API server did not answer in time, which was said then.
func (n *Node) Shown(p *Pod) []map[string]any {
	n.Helper()
	status := n.Status(p)
	if status == nil && (n.late.Load() || strings.Contains(n.AgentLog(), "network-status is tried again")) {
		n.Until(p.Name+" has its network-status", func() (bool, string) {
			status = n.Status(p)
			return status != nil, n.AgentLog()
		})
	}
	return status
}

// Events are the pod's events at the API server: type, reason, count and
// message of each.
func (n *Node) Events(p *Pod) []string {
	n.Helper()
	answer, err := n.Cluster.Do("GET", "/api/v1/namespaces/"+p.Namespace+"/events?fieldSelector=involvedObject.name="+p.Name, nil)
	n.must(err)
	var list struct {
		Items []struct {
			Type, Reason, Message string
			Count                 int
			InvolvedObject        struct{ UID string }
		}
	}
	n.must(answer.Into(&list))
	var out []string
	for _, e := range list.Items {
		if e.InvolvedObject.UID == p.UID {
			out = append(out, fmt.Sprintf("%s %s %d %s", e.Type, e.Reason, e.Count, e.Message))
		}
	}
	return out
}

// Calls are what the recorders were called with by one verb, in order.
func (n *Node) Calls(verb string) []nettest.Call {
	n.Helper()
	all, err := nettest.Calls(n.File("rec"))
	n.must(err)
	return slices.DeleteFunc(all, func(c nettest.Call) bool { return c.Verb != verb })
}

// Called are network and interface of what the recorders did for a pod.
func (n *Node) Called(verb string, p *Pod) []string {
	n.Helper()
	var out []string
	for _, c := range n.Calls(verb) {
		if c.ContainerID == p.Container {
			out = append(out, c.Name+" "+c.IfName)
		}
	}
	return out
}

// Journal reports whether the pod's container has a journal.
func (n *Node) Journal(p *Pod) bool {
	_, err := os.Stat(n.File("state/journal/" + p.Container))
	return err == nil
}

func freePort(tb testing.TB) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
