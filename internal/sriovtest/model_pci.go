package sriovtest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// MakeVFs gives the PF its VFs, if it has none.
func (m *Model) MakeVFs() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.vfs) > 0 {
		return
	}
	for i := range m.VFs {
		f := &function{pci: fmt.Sprintf("0000:01:%02x.%d", 0x10+i/8%16, i%8), index: i, driver: m.VF}
		if i >= 8*16 { // another bus, as with cards of many VFs
			f.pci = fmt.Sprintf("0000:02:%02x.%d", (i-8*16)/8, i%8)
		}
		f.admin = sriov.Admin{MAC: zeroMAC, Proto: "802.1q", LinkState: "auto"}
		if m.knows(sriov.KnobSpoofChk) {
			f.admin.SpoofChk = "on"
		}
		if m.knows(sriov.KnobTrust) {
			f.admin.Trust = "off"
		}
		m.vfs = append(m.vfs, f)
		m.sys.function(f.pci, f.driver)
		m.sys.vf(m.pf.pci, f.pci, i)
		l := m.newLink("", fmt.Sprintf("%sv%d", m.pf.link.Name, i), f)
		if m.ShowsOwn {
			f.admin.MAC = l.MAC
		}
		f.shown = f.admin
		if m.Switchdev {
			m.representor(i)
		}
	}
}

// representor makes the device that stands for a VF in the switch.
func (m *Model) representor(i int) {
	m.last++
	l := &link{port: fmt.Sprintf("pf0vf%d", i), Link: sriov.Link{
		Index: m.last, Name: fmt.Sprintf("ens1f0_%d", i), MTU: defaultMTU, MAC: m.newMAC(), PCI: m.pf.pci,
	}}
	m.spaces[""].links = append(m.spaces[""].links, l)
	m.sys.enter(l.Link, l.port)
}

// RemoveVFs takes all VFs away from the PF, wherever they are.
func (m *Model) RemoveVFs() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.vfs {
		m.unbind(f)
		m.sys.remove(m.pf.pci, f.pci, f.index)
	}
	m.vfs = nil
	node := m.spaces[""]
	node.links = slices.DeleteFunc(node.links, func(l *link) bool {
		gone := l.port != "" && l.function == nil
		if gone {
			m.sys.leave(l.Link)
		}
		return gone
	})
}

// Bind gives a VF a driver, "" = none. The driver's network device comes a
// moment later, if it makes one.
func (m *Model) Bind(pci, driver string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.vfs, func(f *function) bool { return f.pci == pci })
	if i < 0 {
		return unix.ENODEV
	}
	f := m.vfs[i]
	m.unbind(f)
	f.driver = driver
	m.sys.driver(pci, driver)
	if driver != m.VF {
		return nil
	}
	m.after(m.Probe, func() { m.probed(f) })
	return nil
}

// probed gives a function its driver's network device, unless it has it.
func (m *Model) probed(f *function) {
	if f.link != nil || f.driver != m.VF {
		return
	}
	m.newLink("", m.freeName(), f)
	if m.ShowsOwn {
		f.admin.MAC, f.shown.MAC = f.link.MAC, f.link.MAC
	}
}

// Rebind implements sriov.Kernel.
func (m *Model) Rebind(pci, driver string) error { return m.Bind(pci, driver) }

// unbind ends a function's network device, wherever it is.
func (m *Model) unbind(f *function) {
	if f.link == nil {
		return
	}
	for _, s := range m.spaces {
		before := len(s.links)
		s.links = slices.DeleteFunc(s.links, func(l *link) bool { return l == f.link })
		if s.path == "" && len(s.links) != before {
			m.sys.leave(f.link.Link)
		}
	}
	f.link, f.driver = nil, ""
	m.sys.driver(f.pci, "")
}

// freeName is a name as the kernel chooses it.
func (m *Model) freeName() string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("eth", i); !m.spaces[""].inUse(name, nil) {
			return name
		}
	}
}
