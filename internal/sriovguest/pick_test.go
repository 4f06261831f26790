package sriovguest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Seven pods at once get the seven VFs of a PF, each one of its own; the eighth
// is told who has them, and gets the first that is given back.
func TestSevenPodsAtOnce(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("fast", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.8.0/24")})
	pods := make([]*pod, vfsPerPF)
	outcomes := make([]nettest.Outcome, vfsPerPF)
	var all sync.WaitGroup
	for i := range pods {
		pods[i] = m.pod("fast")
		call := pods[i].call("ADD")
		all.Go(func() {
			var err error
			if outcomes[i], err = m.node.CNI(t.Context(), call); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	taken := map[string]bool{}
	for i, p := range pods {
		if e := outcomes[i].Error(); e != nil {
			t.Fatalf("pod %d: %s", i, e)
		}
		var err error
		p.result, err = outcomes[i].Result()
		m.must(err)
		taken[p.nic("net1").PciID] = true
	}
	if len(taken) != vfsPerPF {
		t.Errorf("%d pods have %d VFs: %v", vfsPerPF, len(taken), taken)
	}
	eighth := m.pod("fast")
	e := eighth.refused("ADD")
	if e.Code != 11 {
		t.Errorf("code %d, want 11", e.Code)
	}
	for i, p := range pods {
		contains(t, e.Msg, "pod default/"+strings.ToLower(p.id))
		contains(t, e.Msg, fmt.Sprintf("%d is held by", i))
	}
	last := pods[vfsPerPF-1]
	detach(last)
	eighth.add()
	if got := eighth.nic("net1").PciID; got != last.nic("net1").PciID {
		t.Errorf("the eighth pod has %s, %s was free", got, last.nic("net1").PciID)
	}
	detach(append(pods[:vfsPerPF-1], eighth)...)
}

// VFs that a device plugin advertises, and VFs that the node uses, are nobody's
// to pick.
func TestNotToBePicked(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("fast", obj{"type": "sriov", "master": m.pfs[0].Name})
	m.network("first", obj{"type": "sriov", "master": m.pfs[0].Name, "vf": 0})
	used := m.netdev(m.pfs[0].VFs[5])
	m.onNode("ip", "addr", "add", "192.0.2.1/32", "dev", used)
	defer m.onNode("ip", "addr", "del", "192.0.2.1/32", "dev", used)
	pools := obj{"pools": obj{"example.com/fast": m.pfs[0].VFs[:5]}}
	m.write("state/pools.json", pools)
	p := m.pod("fast").add()
	if got := p.nic("net1").PciID; got != m.pfs[0].VFs[6] {
		t.Errorf("picked %s, want the last, %s", got, m.pfs[0].VFs[6])
	}
	e := m.pod("fast").refused("ADD")
	contains(t, e.Msg, "0 is advertised as example.com/fast", "5 has the address 192.0.2.1/32 on the node", "6 is held by")
	if e = m.pod("first").refused("ADD"); e.Code != 7 {
		t.Errorf("code %d, want 7", e.Code)
	}
	contains(t, e.Msg, "vf 0", "is advertised as example.com/fast")
	detach(p)
	m.write("state/pools.json", obj{"pools": obj{"example.com/fast": m.pfs[0].VFs}})
	if e = m.pod("fast").refused("ADD"); e.Code != 7 {
		t.Errorf("all are advertised: code %d, want 7: %s", e.Code, e.Msg)
	}
	m.must(os.Remove(m.in("state/pools.json")))
}

// netdev is the name of a VF's network device on the node.
func (m *machine) netdev(pci string) string {
	m.t.Helper()
	entries, err := os.ReadDir("/sys/bus/pci/devices/" + pci + "/net")
	if err != nil || len(entries) != 1 {
		m.t.Fatalf("%s: %v, %v", pci, entries, err)
	}
	return entries[0].Name()
}

// An ADD waits for the DEL of the pod that has the VF. While that pod lives it
// is refused in time, by the pod's name; when its namespace is gone, the VF is
// taken back first.
func TestVFOfAnotherPod(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("one", obj{"type": "sriov", "deviceID": m.pfs[0].VFs[2], "vlan": 77, "ipam": m.ipam("10.56.9.0/24")})
	old := m.pod("one").add()
	young := m.pod("one")
	start := time.Now()
	e := young.refused("ADD")
	if took := time.Since(start); e.Code != 11 || took < 4*time.Second || took > 40*time.Second {
		t.Errorf("code %d after %s, want 11 after 5 s", e.Code, took)
	}
	contains(t, e.Msg, "VF 2 of PF "+m.pfs[0].Name, "pod default/"+strings.ToLower(old.id))
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(time.Second)
		old.do("DEL")
	}()
	young.add() // its DEL is on its way
	<-done
	m.must(young.netns.Close()) // the pod ends, and nobody said DEL
	third := m.pod("one").add()
	young.late()
	contains(t, m.cards(), "VF 2 {MAC:", "VLAN:77")
	third.do("CHECK")
	detach(third)
}

// late is the DEL of a pod whose namespace is gone. It must succeed.
func (p *pod) late() {
	p.t.Helper()
	call := p.call("DEL")
	call.Netns, call.Env = "", []string{"CNI_NETNS="}
	if e := p.run(call).Error(); e != nil {
		p.t.Fatalf("a late DEL: %s", e)
	}
}
