package sriovguest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// bind gives a VF another driver; "" is its own.
func (m *machine) bind(pci, driver string) {
	m.t.Helper()
	dir := "/sys/bus/pci/devices/" + pci
	override := driver
	if driver == "" {
		override = "\n"
	}
	if err := os.WriteFile(dir+"/driver/unbind", []byte(pci), 0); !errors.Is(err, fs.ErrNotExist) { // it may have none
		m.must(err)
	}
	m.must(os.WriteFile(dir+"/driver_override", []byte(override), 0))
	m.must(os.WriteFile("/sys/bus/pci/drivers_probe", []byte(pci), 0))
	if driver == "" {
		m.eventually("the VF's own driver", func() error {
			entries, err := os.ReadDir(dir + "/net")
			if err == nil && len(entries) != 1 {
				err = fmt.Errorf("%v", entries)
			}
			return err
		})
	}
}

// onVFIO binds a VF to vfio-pci, and returns what brings it back: its own driver
// chooses name and address anew.
func (m *machine) onVFIO(pci string) (back func()) {
	m.t.Helper()
	dev, mac := m.netdev(pci), ""
	m.link(dev, func(l netlink.Link) error { mac = l.Attrs().HardwareAddr.String(); return nil })
	m.bind(pci, "vfio-pci")
	return func() {
		m.bind(pci, "")
		m.onNode("ip", "link", "set", m.netdev(pci), "name", dev)
		m.onNode("ip", "link", "set", dev, "address", mac)
	}
}

// A VF on vfio-pci is set by way of the PF, has its addresses in the result, and
// touches nothing in the pod.
func TestVFIO(t *testing.T) {
	m := newMachine(t)
	pci := m.pfs[0].VFs[6]
	m.leavesNothing()
	defer m.onVFIO(pci)()
	m.network("dpdk", obj{"type": "sriov", "deviceID": pci, "vlan": 42, "mac": "02:00:00:00:07:07", "trust": "on", "ipam": m.ipam("10.56.13.0/24")})
	m.network("plain", obj{"type": "sriov", "master": m.pfs[0].Name, "ipam": m.ipam("10.56.14.0/24")})
	before := m.cards()
	p := m.pod("dpdk, plain").add()
	nic := p.nic("net1")
	if nic.PciID != pci || nic.Mac != "02:00:00:00:07:07" {
		t.Errorf("net1 is %+v", nic)
	}
	if got := p.address("net1"); got != "10.56.13.2" {
		t.Errorf("net1 has %s in the result", got)
	}
	contains(t, m.cards(), "VF 6 {MAC:02:00:00:00:07:07 VLAN:42", "Trust:on")
	if routes := p.inPod("ip", "route", "show", "table", "all"); len(routes) == 0 {
		t.Error("no routes at all")
	} else {
		contains(t, routes, "default via 10.244.7.1 dev eth0", "10.56.14.0/24 dev net2")
	}
	p.carries("eth0", "10.244.7.1")
	p.do("CHECK")
	m.onNode("ip", "link", "set", m.pfs[0].Name, "vf", "6", "vlan", "43")
	contains(t, p.refused("CHECK").Msg, "vlan of VF 6")
	detach(p)
	m.eventually("the cards are as before", func() error {
		if after := m.cards(); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
}
