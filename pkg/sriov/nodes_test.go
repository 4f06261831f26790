package sriov

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
)

// nodesOf returns the device files of a function as it was read beforehand.
func nodesOf(t *testing.T, tree *cards.Tree, pci string) []DeviceNode {
	t.Helper()
	f, err := Sysfs(tree.Dir()).Function(pci)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := Sysfs(tree.Dir()).DeviceNodes(f)
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

func TestDeviceNodesByDriver(t *testing.T) {
	tree := cards.Temp(t)
	pf := tree.Add(cards.Card{Model: cards.XXV710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 5})
	vfs := tree.VFs(pf)
	tree.Bind(vfs[1], cards.VFIO)
	tree.Bind(vfs[2], cards.UIOGeneric)
	tree.Bind(vfs[3], cards.IGBUIO)
	tree.Bind(vfs[4], "")
	for pci, nodes := range map[string][]DeviceNode{
		pf:     nil,
		vfs[0]: nil,
		vfs[1]: {{NodeVFIO, "/dev/vfio/vfio", "/dev/vfio/vfio"}, {NodeVFIOGroup, "/dev/vfio/3", "/dev/vfio/3"}},
		vfs[2]: {{NodeUIO, "/dev/uio0", "/dev/uio0"}},
		vfs[3]: {{NodeUIO, "/dev/uio1", "/dev/uio1"}},
		vfs[4]: nil,
	} {
		want(t, nodesOf(t, tree, pci), nodes)
	}
}

func TestDeviceNodesNoIOMMU(t *testing.T) {
	tree := cards.Temp(t)
	tree.SetIOMMU(cards.NoIOMMU)
	pf := tree.Add(cards.Card{Model: cards.E810C, PCI: "0000:17:00.0", Name: "ens1f0np0", VFs: 1})
	vf := tree.VFs(pf)[0]
	want(t, nodesOf(t, tree, vf), []DeviceNode(nil))
	tree.Bind(vf, cards.VFIO)
	want(t, nodesOf(t, tree, vf), []DeviceNode{{NodeVFIO, "/dev/vfio/vfio", "/dev/vfio/vfio"}, {NodeVFIOGroup, "/dev/vfio/noiommu-1", "/dev/vfio/1"}})
}

func TestDeviceNodesRDMA(t *testing.T) {
	tree := cards.Temp(t)
	pf := tree.Add(cards.Card{Model: cards.ConnectX6Dx, PCI: "0000:3b:00.0", Name: "ens1f0np0", VFs: 2})
	vf := tree.VFs(pf)[1]
	dev := func(kind, name string) DeviceNode {
		return DeviceNode{kind, "/dev/infiniband/" + name, "/dev/infiniband/" + name}
	}
	want(t, nodesOf(t, tree, pf), []DeviceNode{dev("uverbs", "uverbs0"), dev("umad", "umad0"), dev("issm", "issm0"), dev("rdma_cm", "rdma_cm")})
	all := []DeviceNode{dev("uverbs", "uverbs2"), dev("umad", "umad2"), dev("issm", "issm2"), dev("rdma_cm", "rdma_cm")}
	want(t, nodesOf(t, tree, vf), all)
	tree.Hide(vf) // a pod has the network device: its RDMA device is the node's still
	want(t, nodesOf(t, tree, vf), all)
	// The module rdma_ucm is not loaded.
	if err := os.Remove(filepath.Join(tree.Dir(), "class/misc/rdma_cm")); err != nil {
		t.Fatal(err)
	}
	want(t, nodesOf(t, tree, vf), all[:3])
	tree.HideRDMA(vf)
	want(t, nodesOf(t, tree, vf), []DeviceNode(nil))
}

// What counts is the driver now, not when the function was read.
func TestDeviceNodesNow(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	pf := tree.Add(cards.Card{Model: cards.ConnectX5, PCI: "0000:3b:00.0", Name: "ens1f0np0", VFs: 1})
	f, err := sys.Function(tree.VFs(pf)[0])
	if err != nil {
		t.Fatal(err)
	}
	tree.Bind(f.PCI, cards.VFIO)
	nodes, err := sys.DeviceNodes(f)
	if err != nil {
		t.Fatal(err)
	}
	want(t, nodes, []DeviceNode{{NodeVFIO, "/dev/vfio/vfio", "/dev/vfio/vfio"}, {NodeVFIOGroup, "/dev/vfio/2", "/dev/vfio/2"}})
	tree.Remove(f.PCI)
	_, err = sys.DeviceNodes(f)
	refused(t, err, f.PCI, "not on the node any more", "multiplexerd devices")
}

func TestDeviceNodesMissing(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	tree.SetIOMMU(cards.IOMMUOff)
	pf := tree.Add(cards.Card{Model: cards.I82576, PCI: "0000:01:00.0", Name: "ens1f0", VFs: 2})
	vfs := tree.VFs(pf)
	tree.Bind(vfs[0], cards.VFIO)
	tree.Bind(vfs[1], cards.UIOGeneric)
	if err := os.RemoveAll(filepath.Join(tree.Dir(), "bus/pci/devices", vfs[1], "uio")); err != nil {
		t.Fatal(err)
	}
	for pci, says := range map[string][]string{
		vfs[0]: {vfs[0], "no IOMMU group", "intel_iommu=on", "enable_unsafe_noiommu_mode"},
		vfs[1]: {vfs[1], "uio_pci_generic", "no uio device", "bind the driver anew"},
	} {
		f, err := sys.Function(pci)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sys.DeviceNodes(f)
		refused(t, err, says...)
	}
}
