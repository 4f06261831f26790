package agenttest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A pod gets the networks of its definitions and the devices that kubelet
// gave it, and the API server shows them.
func TestPodWithNetworks(t *testing.T) {
	n := New(t, cluster)
	n.Define("shop", "pods-a", n.List("pods-a", "10.50.0.0/24"), "")
	n.StartAgent()
	n.WaitReady()
	p := n.Pod("pods-web", "pods-a")
	n.OK("ADD", p)
	status := n.Status(p)
	var short []map[string]any
	for _, s := range status {
		short = append(short, map[string]any{"name": s["name"], "interface": s["interface"], "default": s["default"]})
	}
	want := []map[string]any{
		{"name": "cluster", "interface": "eth0", "default": true},
		{"name": "shop/pods-a", "interface": "net1", "default": false},
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Errorf("network-status (-want +got):\n%s", diff)
	}
	n.OK("DEL", p)
	n.StopAgent()
}
