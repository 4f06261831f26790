package sriovguest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Two pods on one PF reach each other by their VFs, and leave nothing.
func TestTwoPodsOnOnePF(t *testing.T) {
	m := newMachine(t)
	m.network("fast", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.1.0/24")})
	warm := m.pod("").add() // the node's bridge stays
	warm.do("DEL")
	before := m.snapshot()
	a, b := m.pod("fast").add(), m.pod("fast").add()
	t.Log(a.result)
	a.ping("net1", b.address("net1"))
	a.do("CHECK")
	b.do("CHECK")
	a.do("DEL")
	b.do("DEL")
	nettest.RequireSame(t, before, m.snapshot())
}

// Every knob that igb has is set, shows, and is taken back.
func TestKnobs(t *testing.T) {
	m := newMachine(t)
	m.network("knobs", obj{
		"type": "sriov", "deviceID": m.pfs[1].VFs[3], "vlan": 100, "vlanQoS": 3, "mac": "02:11:22:33:44:55",
		"spoofchk": "off", "trust": "on", "mtu": 1400, "max_tx_rate": 100, "ipam": m.ipam("10.56.2.0/24"),
	})
	warm := m.pod("").add()
	warm.do("DEL")
	before := m.snapshot()
	a := m.pod("knobs").add()
	t.Log(m.cards())
	a.do("CHECK")
	a.do("DEL")
	nettest.RequireSame(t, before, m.snapshot())
}
