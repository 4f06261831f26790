package deviceplugin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// node is a device file, with where the variable _INFO tells of it.
type node struct {
	sriov.DeviceNode
	part, key string
}

// Device files that a resource with needVhostNet gives besides.
const (
	vhostNet = "/dev/vhost-net"
	netTun   = "/dev/net/tun"
)

// nodesOf returns the device files of a function as its selector promises
// them: those for RDMA are for resources that ask for RDMA.
func nodesOf(sys sriov.Sysfs, f *sriov.Function, s *resource.Selector) ([]node, error) {
	found, err := sys.DeviceNodes(f)
	if err != nil {
		return nil, err
	}
	var nodes []node
	for _, d := range found {
		n := node{DeviceNode: d, part: d.Kind, key: "mount"}
		switch d.Kind {
		case sriov.NodeVFIOGroup:
			n.part, n.key = sriov.NodeVFIO, "dev-mount"
		case sriov.NodeUverbs, sriov.NodeUmad, sriov.NodeIssm, sriov.NodeRDMACM:
			if !s.RDMA {
				continue
			}
			n.part, n.key = "rdma", d.Kind
		}
		nodes = append(nodes, n)
	}
	if s.VhostNet {
		nodes = append(nodes,
			node{DeviceNode: sriov.DeviceNode{Kind: "vhost", Host: vhostNet, Container: vhostNet}, part: "vhost", key: "net-mount"},
			node{DeviceNode: sriov.DeviceNode{Kind: "vhost", Host: netTun, Container: netTun}, part: "vhost", key: "tun-mount"})
	}
	return nodes, nil
}

// present makes sure that the node has a device file. Without it the runtime
// could not start the container, and would not say why.
func (m *Manager) present(pci string, n *node) error {
	path := filepath.Join(m.DevDir, strings.TrimPrefix(n.Host, "/dev/"))
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return network.IO.Errorf("device %s: look for %s: %w", pci, path, err)
	}
	advice := map[string]string{
		vhostNet: "load the kernel module: `modprobe vhost_net`",
		netTun:   "load the kernel module: `modprobe tun`",
	}[n.Host]
	if advice == "" {
		advice = map[string]string{
			sriov.NodeVFIO:      "load the kernel module: `modprobe vfio-pci`",
			sriov.NodeVFIOGroup: "bind the device to vfio-pci anew",
			sriov.NodeUIO:       "bind the device to its uio driver anew",
			sriov.NodeUverbs:    "load the kernel module: `modprobe ib_uverbs`",
			sriov.NodeUmad:      "load the kernel module: `modprobe ib_umad`",
			sriov.NodeIssm:      "load the kernel module: `modprobe ib_umad`",
			sriov.NodeRDMACM:    "load the kernel module: `modprobe rdma_ucm`",
		}[n.Kind]
	}
	return network.Missing.Errorf("device %s needs %s, which the node does not have (no %s): %s", pci, n.Host, path, advice)
}
