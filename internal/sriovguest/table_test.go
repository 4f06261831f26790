package sriovguest

import (
	"os"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// The table that runs on models of drivers runs here on igb: where model and
// card differ, one of the two fails.
func TestTable(t *testing.T) {
	for _, c := range sriovtest.Cases() {
		t.Run(c.Name, func(t *testing.T) { c.On(t, newMachine(t).ground()) })
	}
}

// ground is the first PF.
func (m *machine) ground() sriovtest.Ground {
	pf := m.pfs[0]
	igb := sriovtest.IGB()
	return sriovtest.Ground{
		Sys: sys, Kernel: sriov.Linux{Sys: sys}, PFPCI: pf.PCI, Driver: igb.Name, VF: igb.VF, Cannot: igb.Cannot(), Guards: true,
		NewPod: func() (path string, end func()) {
			ns := nettest.Namespace(m.t, "pod-")
			return ns.Path(), func() { m.must(ns.Close()) }
		},
		RemoveVFs: func() { m.must(os.WriteFile("/sys/bus/pci/devices/"+pf.PCI+"/sriov_numvfs", []byte("0"), 0)) },
		MakeVFs:   func() { m.makeVFs(pf.PCI, vfsPerPF) },
		Bind: func(pci, driver string) error {
			switch driver {
			case "":
				return os.WriteFile("/sys/bus/pci/devices/"+pci+"/driver/unbind", []byte(pci), 0)
			case igb.VF:
				driver = ""
			}
			m.bind(pci, driver)
			return nil
		},
	}
}
