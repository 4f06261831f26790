package sriovguest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// Pods on one PF reach each other; those on the other PF, which is another
// physical network, do not.
func TestPodsOnTwoPhysicalNetworks(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("left", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.1.0/24")})
	m.network("right", obj{"type": "sriov", "master": m.pfs[1].Name, "ipam": m.ipamFrom("10.56.1.0/24", "10.56.1.100")})
	a, b, c, d := m.pod("left").add(), m.pod("left").add(), m.pod("right").add(), m.pod("right").add()
	a.ping("net1", b.address("net1"))
	c.ping("net1", d.address("net1"))
	a.unreachable("net1", c.address("net1"))
	c.unreachable("net1", a.address("net1"))
	for _, p := range []*pod{a, b, c, d} {
		p.do("CHECK")
	}
	nic := a.nic("net1")
	if nic.PciID != m.pfs[0].VFs[0] || nic.Mtu != 1500 || nic.Mac == "" {
		t.Errorf("net1 is %+v, want PCI address %s, MTU 1500, and a MAC address", nic, m.pfs[0].VFs[0])
	}
	detach(a, b, c, d)
}

// A VLAN of the card separates pods, in both directions.
func TestVLANs(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("red", obj{"type": "sriov", "master": m.pfs[0].Name, "vlan": 100, "ipam": m.ipam("10.56.3.0/24")})
	m.network("blue", obj{"type": "sriov", "master": m.pfs[0].Name, "vlan": 200, "ipam": m.ipamFrom("10.56.3.0/24", "10.56.3.77")})
	m.network("plain", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipamFrom("10.56.3.0/24", "10.56.3.88")})
	redA, redB := m.pod("red").add(), m.pod("red").add()
	blue := m.pod("blue").add()
	plain := m.pod("plain").add()
	redA.ping("net1", redB.address("net1"))
	redA.unreachable("net1", "10.56.3.77")
	redA.unreachable("net1", "10.56.3.88")
	blue.unreachable("net1", redB.address("net1"))
	plain.unreachable("net1", redB.address("net1"))
	detach(redA, redB, blue, plain)
}

// The article's picture: one cluster network and two VFs on two physical
// networks, and every packet by the right NIC.
func TestArticlesPicture(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	raw, err := os.ReadFile("testdata/article.json")
	m.must(err)
	var conf obj
	m.must(json.Unmarshal(raw, &conf))
	if conf["master"] != m.pfs[1].Name {
		t.Fatalf("the article's master is %s, the second PF %s", conf["master"], m.pfs[1].Name)
	}
	m.must(os.WriteFile(m.in("net.d/mynet.conf"), raw, 0o644)) // verbatim
	m.network("data", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.4.0/24")})
	networks := `[{"name": "mynet", "cni-args": {"IP": "10.55.206.46"}}, {"name": "data"}]`
	p := m.pod(networks).add()
	peer := m.pod(`[{"name": "mynet", "cni-args": {"IP": "10.55.206.47"}}, {"name": "data"}]`).add()
	if got := p.address("net1"); got != "10.55.206.46" {
		t.Errorf("net1 has %s", got)
	}
	p.ping("", "10.55.206.47")
	p.ping("", peer.address("net2"))
	p.carries("net1", "10.55.206.47")
	p.carries("net2", peer.address("net2"))
	p.carries("eth0", "10.244.7.1")
	p.carries("eth0", peer.address("eth0"))
	// The article's own default route does not stay beside the cluster's.
	if got := strings.TrimSpace(p.inPod("ip", "route", "show", "default")); got != "default via 10.244.7.1 dev eth0" {
		t.Errorf("the default route is %q", got)
	}
	// A request that names the VF's address is answered by the VF.
	peer.ping("net1", "10.55.206.46")
	peer.carries("net1", "10.55.206.46")
	p.requireRules()
	detach(p, peer)
}

// carries sends packets and looks at all the pod's counters: they left by this
// NIC, and by no other.
func (p *pod) carries(ifname, to string) {
	p.t.Helper()
	const packets = 20 // more than a NIC sends of itself, and what is told late of before
	before, err := p.netns.Counters()
	p.must(err)
	for range packets {
		p.ping("", to)
	}
	// igb counts in the hardware, and tells every other second.
	p.eventually("packets to "+to+" by "+ifname, func() error {
		after, cerr := p.netns.Counters()
		p.must(cerr)
		for name, now := range after {
			sent := now.TxPackets - before[name].TxPackets
			if name == ifname && sent < packets || name != ifname && sent >= packets {
				return fmt.Errorf("of %d, %d left by %s", packets, sent, name)
			}
		}
		return nil
	})
}

// requireRules compares the kernel with the routing plan in the journal.
func (p *pod) requireRules() {
	p.t.Helper()
	contents, err := (&journal.Store{Dir: p.in("state"), Now: time.Now}).Read(p.id)
	p.must(err)
	var plan routing.Plan
	p.must(json.Unmarshal(contents.Routing, &plan))
	if len(plan.Rules) < 3 {
		p.t.Errorf("only %d rules for three NICs", len(plan.Rules))
	}
}
