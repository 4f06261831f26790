package sriovguest

import (
	"strings"
	"testing"
)

// Kinds of NIC that only the guest's kernel has, beside a VF or on it: each
// carries what is its own, and the default route stays the cluster network's.
func TestRoutingByOtherKindsOfNIC(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	fast := obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.20.0/24")}
	m.network("fast", fast)
	m.network("tagged", obj{"type": "vlan", "master": "net1", "linkInContainer": true, "vlanId": 300, "ipam": m.ipam("10.56.21.0/24")})
	m.network("shared", obj{"type": "ipvlan", "master": m.pfs[1].Name, "ipam": m.ipam("10.56.22.0/24")})
	a, b := m.pod("fast, tagged, shared").add(), m.pod("fast, tagged, shared").add()
	for _, ifname := range []string{"net1", "net2", "net3"} {
		a.ping("", b.address(ifname))
	}
	// What the VLAN device sends leaves by the VF under it as well.
	a.carries("net1", b.address("net1"))
	a.carries("net3", b.address("net3"))
	a.carries("eth0", b.address("eth0"))
	for _, p := range []*pod{a, b} {
		p.do("CHECK")
		p.requireRules()
		if got := strings.TrimSpace(p.inPod("ip", "route", "show", "default")); got != "default via 10.244.7.1 dev eth0" {
			t.Errorf("the default route is %q", got)
		}
	}
	detach(a, b)
}

// A VF in a VRF: the VRF's own table has its routes, the rest of the pod does
// not see them, and DEL brings the VF home out of it.
func TestVFInVRF(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.write("net.d/red.conflist", obj{"cniVersion": "1.0.0", "name": "red", "plugins": []any{
		obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.23.0/24")},
		obj{"type": "vrf", "vrfname": "red"},
	}})
	a, b := m.pod("red"), m.pod("red").add()
	if outcome := a.do("ADD"); len(outcome.Stderr) > 0 {
		t.Errorf("a warning: %s", outcome.Stderr)
	}
	a.ping("red", b.address("net1"))
	a.ping("net1", b.address("net1"))
	a.carries("eth0", b.address("eth0"))
	if err := a.probe("", b.address("net1")); err == nil {
		t.Error("a packet that no program put into the VRF left by it")
	}
	a.do("CHECK")
	detach(a, b)
}
