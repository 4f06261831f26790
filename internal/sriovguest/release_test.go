package sriovguest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// busy is a network that changes all that igb lets be changed.
func (m *machine) busy(name string, vf int) {
	m.network(name, obj{
		"type": "sriov", "deviceID": m.pfs[0].VFs[vf], "vlan": 55, "mac": "02:00:00:00:05:05", "spoofchk": "off", "trust": "on",
		"mtu": 1300, "ipam": m.ipam("10.56.10.0/24"),
	})
}

// Whatever the pod did to its VF, and however it ended, the VF comes home as it
// was.
func TestComesHome(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.busy("busy", 4)
	for name, end := range map[string]func(*pod){
		"renamed": func(p *pod) {
			p.inPod("ip", "link", "set", "net1", "down")
			p.inPod("ip", "link", "set", "net1", "name", "mine")
			p.inPod("ip", "link", "set", "mine", "mtu", "900")
			p.do("DEL")
		},
		"another address": func(p *pod) {
			p.inPod("ip", "link", "set", "net1", "address", "02:00:00:00:06:06")
			p.do("DEL")
		},
		"namespace deleted, DEL without one": func(p *pod) {
			m.must(p.netns.Close())
			p.late()
		},
		"namespace deleted, DEL with its path": func(p *pod) {
			m.must(p.netns.Close())
			p.do("DEL")
		},
		"alternative names": func(p *pod) {
			p.inPod("ip", "link", "property", "add", "dev", "net1", "altname", "also-mine")
			p.do("DEL")
		},
		"GC": func(p *pod) {
			m.must(p.netns.Close())
			p.gc()
		},
		"GC of what the journal has lost": func(p *pod) {
			m.must(p.netns.Close())
			m.must(os.Remove(filepath.Join(m.in("state/journal"), p.id)))
			p.gc()
			m.must(os.RemoveAll(m.in("leases/busy")))
			m.must(os.RemoveAll(m.in("leases/cluster"))) // its address is the cluster network's to collect
		},
		"DEL that finds the claim lost": func(p *pod) {
			m.must(os.Remove(filepath.Join(m.in("state/vf"), m.pfs[0].VFs[4]+".json")))
			p.do("DEL")
		},
	} {
		before := m.snapshot()
		t.Run(name, func(t *testing.T) {
			p := m.pod("busy").add()
			end(p)
			same(t, before, m, name)
		})
	}
}

// gc is a GC of a runtime that has no containers.
func (p *pod) gc() {
	p.t.Helper()
	call := p.call("GC")
	call.ContainerID, call.Netns, call.IfName, call.Args = "", "", "", ""
	call.Stdin = append(call.Stdin[:len(call.Stdin)-1], []byte(`,"cni.dev/valid-attachments":[]}`)...)
	if e := p.run(call).Error(); e != nil {
		p.t.Fatalf("GC: %s", e)
	}
}

// A VF with alternative names on the node, one of them the pod's name for it.
func TestAlternativeNames(t *testing.T) {
	m := newMachine(t)
	dev := m.netdev(m.pfs[0].VFs[1])
	m.onNode("ip", "link", "property", "add", "dev", dev, "altname", "net1")
	m.onNode("ip", "link", "property", "add", "dev", dev, "altname", "enp1s0f0v1")
	t.Cleanup(func() {
		m.onNode("ip", "link", "property", "del", "dev", dev, "altname", "net1")
		m.onNode("ip", "link", "property", "del", "dev", dev, "altname", "enp1s0f0v1")
	})
	m.leavesNothing()
	m.network("one", obj{"type": "sriov", "deviceID": m.pfs[0].VFs[1]})
	p := m.pod("one").add()
	p.inPod("ip", "link", "set", "net1", "down")
	p.inPod("ip", "link", "set", "net1", "name", "x")
	p.inPod("ip", "link", "property", "add", "dev", "x", "altname", dev) // as udev does
	detach(p)
}

// A DEL that failed is tried until it truly worked; meanwhile the VF is
// nobody's.
func TestDELIsRetried(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.busy("busy", 3)
	m.network("any", obj{"type": "sriov", "master": m.pfs[0].Name, "vf": 3})
	p := m.pod("busy").add()
	// Without its driver the PF cannot be told anything.
	m.must(os.WriteFile("/sys/bus/pci/devices/"+m.pfs[0].PCI+"/driver_override", []byte("none"), 0))
	dev := m.pfs[0].Name
	m.onNode("ip", "link", "add", "hold", "type", "bridge")
	hidden := nettest.Namespace(t, "hidden-")
	m.onNode("ip", "link", "set", dev, "netns", hidden.Name())
	e := p.refused("DEL")
	contains(t, e.Msg, "PF "+m.pfs[0].PCI+" has no network device on the node")
	out, err := (&nettest.Node{NS: hidden}).Output("ip", "link", "set", dev, "netns", m.node.Name())
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	m.onNode("ip", "link", "del", "hold")
	m.onNode("ip", "link", "set", dev, "up")
	m.must(os.WriteFile("/sys/bus/pci/devices/"+m.pfs[0].PCI+"/driver_override", []byte("\n"), 0))
	q := m.pod("any")
	p.do("DEL")
	p.do("DEL") // there is nothing more to do
	q.add()
	detach(q)
}

// The VFs are taken away under a running pod: CHECK says so, and DEL has
// nothing to restore but addresses to give back.
func TestVFsRemoved(t *testing.T) {
	m := newMachine(t)
	m.busy("busy", 6)
	m.pod("").add().do("DEL")
	p := m.pod("busy").add()
	m.must(os.WriteFile("/sys/bus/pci/devices/"+m.pfs[0].PCI+"/sriov_numvfs", []byte("0"), 0))
	contains(t, p.refused("CHECK").Msg, "is gone from the node")
	detach(p)
	for _, pattern := range []string{"state/journal/*", "state/release/*", "state/running/*", "state/vf/*.json", "leases/*/1*"} {
		left, err := filepath.Glob(m.in(pattern))
		m.must(err)
		if len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	m.makeVFs(m.pfs[0].PCI, vfsPerPF)
}

// The PF goes down and up under running pods: they reach each other again.
func TestPFDownAndUp(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("fast", obj{"type": "sriov", "master": m.pfs[1].Name, "ipam": m.ipam("10.56.11.0/24")})
	a, b := m.pod("fast").add(), m.pod("fast").add()
	a.ping("net1", b.address("net1"))
	m.onNode("ip", "link", "set", m.pfs[1].Name, "down")
	time.Sleep(200 * time.Millisecond)
	m.onNode("ip", "link", "set", m.pfs[1].Name, "up")
	a.ping("net1", b.address("net1"))
	a.do("CHECK")
	detach(a, b)
}

// A whole PF goes to a pod and comes back.
func TestPFOnly(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("whole", obj{"type": "sriov", "master": m.pfs[1].Name, "pfOnly": true, "mtu": 1400, "ipam": m.ipam("10.56.12.0/24")})
	m.network("part", obj{"type": "sriov", "master": m.pfs[1].Name})
	vf := m.pod("part").add()
	contains(t, m.pod("whole").refused("ADD").Msg, "pfOnly", "VF 0 of PF "+m.pfs[1].Name+" is held by")
	detach(vf)
	p := m.pod("whole").add()
	if got := p.nic("net1").PciID; got != m.pfs[1].PCI {
		t.Errorf("the result has %s, want %s", got, m.pfs[1].PCI)
	}
	contains(t, p.inPod("ip", "link", "show", "net1"), "mtu 1400")
	p.do("CHECK")
	detach(p)
	p = m.pod("whole").add()
	m.must(p.netns.Close())
	p.late()
}
