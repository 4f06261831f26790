package show

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const (
	sys      = sriov.Sysfs("/sys")
	vfsPerPF = 7
)

// outside is an address of no network: the node plays it.
func outside() net.IP { return net.IPv4(203, 0, 113, 10) }

// prepare makes a node of the machine: VFs, configurations, and the pods'
// namespaces. A pod comes and goes once, so that what plugins make once and
// keep, as a bridge or a lock, is there before the comparison begins.
func (s *show) prepare(ctx context.Context) error {
	for _, dir := range []string{"/etc/cni", "/var/lib/cni"} {
		if err := s.mountEmpty(dir); err != nil {
			return err
		}
	}
	if err := s.configure(); err != nil {
		return err
	}
	var err error
	if s.node, err = nettest.OwnNode(); err != nil {
		return err
	}
	for _, pci := range guest.PFs() {
		pf, pfErr := makeVFs(ctx, pci)
		if pfErr != nil {
			return pfErr
		}
		s.pfs = append(s.pfs, pf)
	}
	if err = s.playOutside(); err != nil {
		return err
	}
	if s.runtime, err = newContainerRuntime(s.Bin, s.Plugins); err != nil {
		return err
	}
	if err = s.namePods(); err != nil {
		return err
	}
	if err = s.comeAndGo(ctx); err != nil {
		return err
	}
	s.before, err = s.state()
	return err
}

func (s *show) mountEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs over %s: %w", dir, err)
	}
	s.undo = append(s.undo, func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	return nil
}

// makeVFs gives a PF its VFs, and waits for their network devices.
func makeVFs(ctx context.Context, pci string) (*sriov.PF, error) {
	pf, err := sys.PF(pci)
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(pf.Name)
	if err != nil {
		return nil, fmt.Errorf("find PF %s: %w", pf.Name, err)
	}
	if err = netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set PF %s up: %w", pf.Name, err)
	}
	if len(pf.VFs) != vfsPerPF {
		numvfs := filepath.Join("/sys/class/net", pf.Name, "device/sriov_numvfs")
		if err = os.WriteFile(numvfs, fmt.Append(nil, vfsPerPF), 0); err != nil {
			return nil, fmt.Errorf("make VFs: %w", err)
		}
	}
	if pf, err = sys.PF(pci); err != nil {
		return nil, err
	}
	return pf, eventually(ctx, func() error {
		for _, vf := range pf.VFs {
			if d, vfErr := sys.VF(vf); vfErr != nil || d.Netdev == "" {
				return fmt.Errorf("VF %s has no network device: %w", vf, vfErr)
			}
		}
		return nil
	})
}

// playOutside gives the node an address that only a default route leads to.
func (s *show) playOutside() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: outside(), Mask: net.CIDRMask(32, 32)}}
	if err = netlink.AddrAdd(lo, address); err != nil {
		return fmt.Errorf("add %s to lo: %w", address.IP, err)
	}
	s.undo = append(s.undo, func() error { return netlink.AddrDel(lo, address) })
	return nil
}
