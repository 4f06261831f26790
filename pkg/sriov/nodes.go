package sriov

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// DeviceNode is a device file that a process needs to drive a function.
type DeviceNode struct {
	Kind      string // one of the Node constants
	Host      string // path on the node
	Container string // path in the container
}

// The kinds of device files.
const (
	NodeVFIO      = "vfio"       // /dev/vfio/vfio, one for all groups
	NodeVFIOGroup = "vfio-group" // /dev/vfio/26
	NodeUIO       = "uio"        // /dev/uio0
	NodeUverbs    = "uverbs"     // /dev/infiniband/uverbs0
	NodeUmad      = "umad"       // /dev/infiniband/umad0
	NodeIssm      = "issm"       // /dev/infiniband/issm0
	NodeRDMACM    = "rdma_cm"    // /dev/infiniband/rdma_cm, one for all
)

// DeviceNodes returns the device files of a function as its driver has them
// now; what the function was when it was read last does not count. The order
// is that of the Node constants. A function that the kernel drives, and that
// has no RDMA device, has none.
func (s Sysfs) DeviceNodes(f *Function) ([]DeviceNode, error) {
	if !s.has(f.PCI) {
		return nil, network.Invalid.Errorf("sriov: device %s is not on the node any more; see with `multiplexerd devices` which it has", f.PCI)
	}
	switch driver := s.driver(f.PCI); driver {
	case "vfio-pci":
		return s.vfioNodes(f)
	case "uio_pci_generic", "igb_uio":
		return s.uioNodes(f, driver)
	default:
		return s.rdmaNodes(f)
	}
}

func (s Sysfs) vfioNodes(f *Function) ([]DeviceNode, error) {
	dir := filepath.Join(s.dir(f.PCI), "iommu_group")
	group := linkBase(dir)
	if !digits(group) {
		return nil, network.Invalid.Errorf("sriov: device %s: driver vfio-pci has it, but it is in no IOMMU group (no iommu_group in %s): turn the IOMMU on in the firmware and on the kernel's command line (intel_iommu=on or amd_iommu=on), or, where there is none, load vfio with enable_unsafe_noiommu_mode=1", f.PCI, s.dir(f.PCI))
	}
	// DPDK opens /dev/vfio/N in either mode, so in a container it has that name.
	node := DeviceNode{Kind: NodeVFIOGroup, Host: "/dev/vfio/" + group, Container: "/dev/vfio/" + group}
	if readWord(filepath.Join(dir, "name")) == noIOMMU {
		node.Host = "/dev/vfio/noiommu-" + group
	}
	return []DeviceNode{same(NodeVFIO, "/dev/vfio/vfio"), node}, nil
}

func (s Sysfs) uioNodes(f *Function, driver string) ([]DeviceNode, error) {
	nodes, err := s.numbered(f, "uio", NodeUIO, "/dev")
	if err == nil && len(nodes) == 0 {
		return nil, network.Invalid.Errorf("sriov: device %s: driver %s has it, but there is no uio device (none in %s/uio): bind the driver anew, and see the kernel's log if that does not help", f.PCI, driver, s.dir(f.PCI))
	}
	return nodes, err
}

func (s Sysfs) rdmaNodes(f *Function) ([]DeviceNode, error) {
	var nodes []DeviceNode
	for _, kind := range []struct{ name, dir string }{
		{NodeUverbs, "infiniband_verbs"}, {NodeUmad, "infiniband_mad"}, {NodeIssm, "infiniband_mad"},
	} {
		found, err := s.numbered(f, kind.dir, kind.name, "/dev/infiniband")
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, found...)
	}
	// The connection manager is a module of its own: a device file that is not
	// there would keep the container from starting.
	if len(nodes) > 0 && exists(filepath.Join(string(s), "class", "misc", NodeRDMACM)) {
		nodes = append(nodes, same(NodeRDMACM, "/dev/infiniband/rdma_cm"))
	}
	return nodes, nil
}

// numbered returns the device files of one kind, as a directory of the
// function names them: uverbs0, uverbs1.
func (s Sysfs) numbered(f *Function, sub, kind, dev string) ([]DeviceNode, error) {
	dir, err := openDir(unix.AT_FDCWD, s.dir(f.PCI))
	if err != nil || dir == nil {
		return nil, err
	}
	defer dir.close()
	var nodes []DeviceNode
	for _, name := range dir.names(sub) {
		if number, ok := strings.CutPrefix(name, kind); ok && digits(number) {
			nodes = append(nodes, same(kind, filepath.Join(dev, name)))
		}
	}
	return nodes, dir.err
}

// same is a device file that has one path on the node and in the container.
func same(kind, path string) DeviceNode {
	return DeviceNode{Kind: kind, Host: path, Container: path}
}
