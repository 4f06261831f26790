package agenttest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// lastWord waits until the agent's last word does or does not say it.
func (n *Node) lastWord(text string, says bool) {
	n.Helper()
	n.Until(fmt.Sprintf("the last word says %s: %t", text, says), func() (bool, string) {
		raw, err := os.ReadFile(n.File("state/cluster.json"))
		return err == nil && strings.Contains(string(raw), text) == says, fmt.Sprintf("%s %v", raw, err)
	})
}

// A namespace's networks are those of its pods without an annotation of
// their own, as they are now; while the agent is down those pods wait, and
// others do not.
func TestNetworksOfNamespaces(t *testing.T) {
	n := ready(t)
	n.Namespace("ns-ours", "ns-a,default/ns-c")
	n.Define("ns-ours", "ns-a", n.List("ns-a", "10.51.0.0/24"), "")
	n.Define("ns-ours", "ns-b", n.List("ns-b", "10.52.0.0/24"), "")
	n.Define("default", "ns-c", n.List("ns-c", "10.53.0.0/24"), "")
	count := 0
	attached := func(namespace string, annotations map[string]string) []string {
		t.Helper()
		count++
		p := n.NewPod(namespace, fmt.Sprintf("ns-%d", count), "")
		p.Annotations = annotations
		n.CreatePod(p)
		n.OK("ADD", p)
		n.OK("DEL", p)
		return n.Called("ADD", p)
	}
	networks := func(value string) map[string]string { return map[string]string{"k8s.v1.cni.cncf.io/networks": value} }
	n.lastWord(`"ns-ours"`, true)
	n.same(attached("ns-ours", nil), []string{"cluster eth0", "ns-a net1", "ns-c net2"})
	n.same(attached("ns-ours", networks("ns-b")), []string{"cluster eth0", "ns-b net1"})
	n.same(attached("ns-ours", networks("")), []string{"cluster eth0"})
	n.same(attached("shop", nil), []string{"cluster eth0"})
	n.Config = obj{"runtimeConfig": nil} // annotations by the agent
	n.same(attached("ns-ours", nil), []string{"cluster eth0", "ns-a net1", "ns-c net2"})
	n.same(attached("ns-ours", networks("")), []string{"cluster eth0"})
	n.Config = obj{"namespaceDefaults": false}
	n.same(attached("ns-ours", nil), []string{"cluster eth0"})
	n.Config = nil

	n.Namespace("ns-ours", "ns-b")
	n.Until("the new networks are the pods'", func() (bool, string) {
		got := strings.Join(attached("ns-ours", nil), ",")
		return got == "cluster eth0,ns-b net1", got
	})
	n.KillAgent()
	waiting := n.NewPod("ns-ours", "ns-waiting", "")
	n.Refused(n.soon("ADD", waiting), 11, `namespace "ns-ours" has networks of its own`, "wait until it answers")
	n.same(n.Called("ADD", waiting), []string(nil))
	n.same(attached("shop", nil), []string{"cluster eth0"})
	n.same(attached("ns-ours", networks("")), []string{"cluster eth0"})

	n.Namespace("ns-ours", "") // while nobody looks
	n.StartAgent()
	n.WaitReady()
	n.lastWord(`"ns-ours"`, false)
	n.KillAgent()
	n.OK("ADD", waiting)
	n.same(n.Called("ADD", waiting), []string{"cluster eth0"})
	n.OK("DEL", waiting)
}

// A namespace that names what is not there is named in the error, and so is
// one whose annotation cannot be read.
func TestBrokenNetworksOfNamespaces(t *testing.T) {
	n := ready(t)
	for namespace, test := range map[string]struct {
		networks string
		code     uint
		words    []string
	}{
		"ns-missing": {"ns-never", 7, []string{"of namespace ns-missing", "no NetworkAttachmentDefinition ns-missing/ns-never"}},
		"ns-broken":  {"[{", 7, []string{"of namespace ns-broken"}},
	} {
		n.Namespace(namespace, test.networks)
		p := n.NewPod(namespace, "web", "")
		p.Container = "c-" + namespace
		n.CreatePod(p)
		n.lastWord(`"`+namespace+`"`, true)
		n.Refused(n.Run("ADD", p), test.code, test.words...)
	}
	n.eventually(&Pod{Namespace: "ns-missing", Name: "web", UID: n.uid("ns-missing", "web")}, "Warning NoNetworkFound ", "ns-never")
}

func (n *Node) uid(namespace, name string) string {
	n.Helper()
	answer, err := n.Cluster.Do("GET", "/api/v1/namespaces/"+namespace+"/pods/"+name, nil)
	n.must(err)
	var pod struct{ Metadata struct{ UID string } }
	n.must(answer.Into(&pod))
	return pod.Metadata.UID
}
