package sriovguest

import (
	"testing"
)

// CHECK notices what anybody changed, in the pod and in the PF.
func TestCHECK(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.busy("busy", 2)
	p := m.pod("busy").add()
	p.do("CHECK")
	pf := m.pfs[0].Name
	for name, c := range map[string]struct {
		change, back func()
		want         string
	}{
		"VLAN": {
			func() { m.onNode("ip", "link", "set", pf, "vf", "2", "vlan", "56") },
			func() { m.onNode("ip", "link", "set", pf, "vf", "2", "vlan", "55") },
			"vlan of VF 2 of PF " + pf,
		},
		"trust": {
			func() { m.onNode("ip", "link", "set", pf, "vf", "2", "trust", "off") },
			func() { m.onNode("ip", "link", "set", pf, "vf", "2", "trust", "on") },
			"trust of VF 2",
		},
		"MTU": {
			func() { p.inPod("ip", "link", "set", "net1", "mtu", "1280") },
			func() { p.inPod("ip", "link", "set", "net1", "mtu", "1300") },
			"the MTU of VF 2",
		},
		"MAC": {
			func() { p.inPod("ip", "link", "set", "net1", "address", "02:00:00:00:08:08") },
			func() { p.inPod("ip", "link", "set", "net1", "address", "02:00:00:00:05:05") },
			"the address of VF 2",
		},
	} {
		c.change()
		t.Log(name)
		contains(t, p.refused("CHECK").Msg, c.want)
		c.back()
		p.do("CHECK")
	}
	p.inPod("ip", "addr", "del", p.address("net1")+"/24", "dev", "net1")
	contains(t, p.refused("CHECK").Msg, "lacks the address")
	p.inPod("ip", "link", "set", "net1", "down")
	p.inPod("ip", "link", "set", "net1", "name", "other")
	contains(t, p.refused("CHECK").Msg, "the name of VF 2")
	detach(p)
}
