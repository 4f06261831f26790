package resource

import (
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// card is a port with VFs behind it: the port itself, then its VFs.
func card(bus int, name string, vfs int, vf sriov.Function) []sriov.Function {
	pf := sriov.PF{PCI: fmt.Sprintf("0000:%02x:00.0", bus), Name: name, Driver: "port", Total: vfs}
	for i := range vfs {
		pf.VFs = append(pf.VFs, fmt.Sprintf("0000:%02x:%02x.%d", bus, 2+i/8, i%8))
	}
	own := vf
	own.Device = sriov.Device{PCI: pf.PCI, PF: pf, Index: -1, Driver: "port", Netdev: name}
	all := []sriov.Function{own}
	for i, pci := range pf.VFs {
		vf.Device = sriov.Device{PCI: pci, PF: pf, Index: i, Driver: vf.Driver}
		all = append(all, vf)
	}
	return all
}

// nic is a port without VFs.
func nic(bus int, name string, f sriov.Function) sriov.Function {
	f.PCI, f.Index = fmt.Sprintf("0000:%02x:00.0", bus), -1
	f.PF = sriov.PF{PCI: f.PCI, Name: name, Driver: f.Driver}
	f.Netdev = name
	return f
}

func intelVF(driver string) sriov.Function {
	return sriov.Function{Device: sriov.Device{Driver: driver}, Vendor: "8086", Product: "154c", LinkType: "ether"}
}

func mellanoxVF(link string) sriov.Function {
	return sriov.Function{Device: sriov.Device{Driver: "mlx5_core"}, Vendor: "15b3", Product: "1018", LinkType: link, RDMA: []string{"mlx5_2"}}
}
