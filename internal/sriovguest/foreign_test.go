package sriovguest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
)

// foreign is where sriov-cni keeps its records, and delegates where Multus
// does. In the guest they are nobody's.
const (
	foreign   = "/var/lib/cni/sriov"
	delegates = "/var/lib/cni/multus"
)

// A pod that sriov-cni started is deleted: its VF comes home by that plugin's
// record, its address is free again, and the record is gone. Before that, no
// pod of ours gets the VF.
func TestPodOfSRIOVCNI(t *testing.T) {
	t.Run("by itself", func(t *testing.T) { podOfSRIOVCNI(t, false) })
	t.Run("called by Multus", func(t *testing.T) { podOfSRIOVCNI(t, true) })
}

func podOfSRIOVCNI(t *testing.T, multus bool) {
	m := newMachine(t)
	t.Cleanup(func() { m.must(errors.Join(os.RemoveAll(foreign), os.RemoveAll(delegates))) })
	m.leavesNothing()
	m.must(os.MkdirAll(filepath.Join(foreign, "pci"), 0o700))
	pci, pf := m.pfs[0].VFs[5], m.pfs[0].Name
	dev, mac := m.netdev(pci), ""
	m.link(dev, func(l netlink.Link) error { mac = l.Attrs().HardwareAddr.String(); return nil })
	m.network("old", obj{"type": "sriov", "deviceID": pci, "ipam": m.ipam("10.56.15.0/24")})

	// What sriov-cni does at ADD, and writes down at its end.
	p := m.pod("")
	m.onNode("ip", "link", "set", pf, "vf", "5", "vlan", "99")
	m.onNode("ip", "link", "set", pf, "vf", "5", "trust", "on")
	m.onNode("ip", "link", "set", dev, "netns", p.netns.Name())
	p.inPod("ip", "link", "set", dev, "name", "net1")
	p.inPod("ip", "link", "set", "net1", "mtu", "1200", "up")
	ipam := m.ipam("10.56.15.0/24")
	record := obj{
		"cniVersion": "0.3.1", "name": "old", "type": "sriov", "ipam": ipam, "vlan": 99, "trust": "on",
		"deviceID": pci, "Master": pf, "VFID": 5,
		"OrigVfState": obj{
			"HostIFName": dev, "SpoofChk": true, "Trust": false, "AdminMAC": mac, "EffectiveMAC": mac, "Vlan": 0, "VlanQoS": 0,
			"VlanProto": 33024, "MinTxRate": 0, "MaxTxRate": 0, "LinkState": 0, "MTU": 1500,
		},
	}
	raw, err := json.Marshal(record)
	m.must(err)
	m.must(os.WriteFile(filepath.Join(foreign, p.id+"-net1"), raw, 0o600))
	m.must(os.WriteFile(filepath.Join(foreign, "pci", pci), []byte(p.netns.Path()), 0o600))
	m.must(os.MkdirAll(m.in("leases/old"), 0o755))
	m.must(os.WriteFile(m.in("leases/old/10.56.15.9"), []byte(p.id+"\r\nnet1"), 0o600))

	if multus {
		conf := obj{"cniVersion": "0.3.1", "name": "old", "type": "sriov", "ipam": ipam, "vlan": 99, "trust": "on", "deviceID": pci, "pciBusID": pci}
		m.multus(p.id, obj{"Name": "cluster", "Bytes": m.read("cluster/10-cluster.conflist")},
			obj{"Name": "default/old", "deviceID": pci, "resourceName": "intel.com/old", "Bytes": encoded(m, conf)})
	}

	contains(t, m.pod("old").refused("ADD").Msg, "a pod of sriov-cni", p.netns.Path())
	p.do("DEL")
	for _, path := range []string{filepath.Join(foreign, p.id+"-net1"), filepath.Join(foreign, "pci", pci), filepath.Join(delegates, p.id), m.in("leases/old/10.56.15.9")} {
		if _, err = os.Lstat(path); err == nil {
			t.Errorf("left: %s", path)
		}
	}
	q := m.pod("old").add()
	// While both are on the node, sriov-cni reads here whose the VF is.
	if told, rerr := os.ReadFile(filepath.Join(foreign, "pci", pci)); rerr != nil || string(told) != q.netns.Path() {
		t.Errorf("sriov-cni is told %q, %v", told, rerr)
	}
	detach(q)
}

// multus records a container as Multus does.
func (m *machine) multus(container string, list ...obj) {
	m.t.Helper()
	m.must(os.MkdirAll(delegates, 0o700))
	m.must(os.WriteFile(filepath.Join(delegates, container), encoded(m, list), 0o600))
}

func (m *machine) read(name string) []byte {
	m.t.Helper()
	raw, err := os.ReadFile(m.in(name))
	m.must(err)
	return raw
}

func encoded(m *machine, value any) []byte {
	m.t.Helper()
	raw, err := json.Marshal(value)
	m.must(err)
	return raw
}
