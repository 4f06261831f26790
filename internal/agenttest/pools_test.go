package agenttest

import (
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// The agent writes down which VFs device plugins advertise, and keeps the last
// answer while kubelet is away.
func TestPoolsOfDevicePlugins(t *testing.T) {
	n := ready(t)
	claims := sriov.NewClaims(n.File("state"), "")
	advertised := func(pci string) bool {
		all, err := claims.Advertised()
		if err != nil {
			t.Error(err)
		}
		return all[pci] == "example.com/vf"
	}
	const first, second = "0000:3b:02.0", "0000:3b:02.1"
	offer := func(ids ...string) {
		var devices []kubelettest.Device
		for _, id := range ids {
			devices = append(devices, kubelettest.Device{Resource: "example.com/vf", ID: id})
		}
		n.Kubelet.SetAdvertised(devices...)
	}
	offer(first)
	n.await("the first VF", func() bool { return advertised(first) && !advertised(second) })
	offer(first, second)
	n.await("both", func() bool { return advertised(first) && advertised(second) })
	offer()
	n.await("none", func() bool { return !advertised(first) && !advertised(second) })
}

// await waits for what the agent's next sweeps bring.
func (n *Node) await(what string, there func() bool) {
	n.Helper()
	for end := time.Now().Add(20 * time.Second); !there(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			n.Fatalf("%s: not within 20 s", what)
		}
	}
}
