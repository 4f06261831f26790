package agenttest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A pod gets the networks of its definitions, and the API server shows them.
func TestPodWithNetworks(t *testing.T) {
	n := ready(t)
	n.Define("shop", "pods-a", n.List("pods-a", "10.50.0.0/24"), "")
	p := n.Pod("pods-web", "pods-a")
	n.OK("ADD", p)
	status := n.Shown(p)
	var short []obj
	for _, s := range status {
		short = append(short, obj{"name": s["name"], "interface": s["interface"], "default": s["default"]})
	}
	want := []obj{
		{"name": "cluster", "interface": "eth0", "default": true},
		{"name": "shop/pods-a", "interface": "net1", "default": false},
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Errorf("network-status (-want +got):\n%s", diff)
	}
	n.OK("DEL", p)
	n.StopAgent()
}

// soon runs a call that must end within 5 s, whatever it says.
func (n *Node) soon(verb string, p *Pod) nettest.Outcome {
	n.Helper()
	out, took := n.timed(verb, p)
	if took > 5*time.Second {
		n.Errorf("%s took %s", verb, took)
	}
	return out
}

// A runtime that delivers no annotations: the agent knows them, also those
// of a pod that was created again under the same name a moment ago.
func TestAnnotationsOfTheAPIServer(t *testing.T) {
	n := ready(t)
	n.Config = obj{"runtimeConfig": nil}
	n.Define("shop", "ann-a", n.List("ann-a", "10.51.0.0/24"), "")
	n.Define("shop", "ann-b", n.List("ann-b", "10.52.0.0/24"), "")
	n.Define("default", "ann-c", n.List("ann-c", "10.53.0.0/24"), "")
	for i := range 5 { // stateful: one name, one pod after the other
		first := n.Pod("ann-0", "ann-a")
		n.OK("ADD", first)
		n.same(n.names(first), []string{"cluster", "shop/ann-a"})
		n.DeletePod(first)
		second := &Pod{Namespace: "shop", Name: "ann-0", Container: "c-second", NS: first.NS, Netns: first.Netns,
			Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "ann-b", "v1.multus-cni.io/default-network": "default/ann-c"}}
		n.CreatePod(second)
		n.Refused(n.soon("ADD", first), 11, "gone")
		n.OK("DEL", first)
		n.OK("ADD", second)
		n.same(n.Called("ADD", second)[2*i:], []string{"ann-c eth0", "ann-b net1"})
		n.same(n.names(second), []string{"default/ann-c", "shop/ann-b"})
		n.DeletePod(second)
		n.OK("DEL", second)
	}
	plain := n.Pod("ann-plain", "")
	n.OK("ADD", plain)
	n.same(n.Called("ADD", plain), []string{"cluster eth0"})
	n.OK("DEL", plain)
}

// The runtime knows a static pod by the hash of its file; the status is shown
// on the mirror, which has a UID of its own.
func TestStaticPod(t *testing.T) {
	n := ready(t)
	n.Define("shop", "static-a", n.List("static-a", "10.51.0.0/24"), "")
	for name, config := range map[string]obj{"static-told": nil, "static-asked": {"runtimeConfig": nil}} {
		n.Config = config
		const hash = "0123456789abcdef0123456789abcdef"
		p := n.NewPod("shop", name, "static-a")
		p.Annotations["kubernetes.io/config.mirror"], p.Annotations["kubernetes.io/config.hash"] = hash, hash
		n.CreatePod(p)
		p.UID = hash
		n.OK("ADD", p)
		n.same(n.names(p), []string{"cluster", "shop/static-a"})
		n.OK("DEL", p)
		// A static pod's mirror comes when kubelet finds the time: the status follows.
		late := n.NewPod("shop", name+"-late", "static-a")
		late.Annotations["kubernetes.io/config.mirror"], late.Annotations["kubernetes.io/config.hash"] = hash, hash
		late.UID = hash
		if out := n.soon("ADD", late); config != nil {
			n.Refused(out, 11, "gone")
			continue
		} else if e := out.Error(); e != nil {
			t.Fatal(e)
		}
		n.CreatePod(late)
		n.Until("the mirror shows the networks", func() (bool, string) { return len(n.names(late)) == 2, "" })
		late.UID = hash
		n.OK("DEL", late)
	}
}

// A pod that is gone stalls nothing: its DEL goes by the journal, its ADD
// ends soon, and nothing is shown on a pod of the same name.
func TestPodsGone(t *testing.T) {
	n := ready(t)
	n.Define("shop", "gone-a", n.List("gone-a", "10.51.0.0/24"), "")
	p := n.Pod("gone-del", "gone-a")
	n.OK("ADD", p)
	n.DeletePod(p)
	if e := n.soon("DEL", p).Error(); e != nil {
		t.Error(e)
	}
	n.same(n.Called("DEL", p), []string{"gone-a net1", "cluster eth0"})
	n.same(n.Journal(p), false)

	p = n.Pod("gone-add", "gone-a")
	n.DeletePod(p)
	namesake := &Pod{Namespace: p.Namespace, Name: p.Name}
	n.CreatePod(namesake)
	if e := n.soon("ADD", p).Error(); e != nil { // the runtime knows all that it takes
		t.Error(e)
	}
	n.OK("DEL", p)
	n.same(n.Status(namesake), []map[string]any(nil))

	n.Config = obj{"runtimeConfig": nil}
	n.Refused(n.soon("ADD", p), 11, "shop/gone-add", "gone")
	n.same(n.Journal(p), false)
	n.DeletePod(namesake)
	n.Refused(n.soon("ADD", p), 11, "shop/gone-add", "gone")
}
