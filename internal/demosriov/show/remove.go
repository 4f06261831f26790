package show

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
)

// rename is what a pod with the right to it can do to its VF.
func (s *show) rename(context.Context) error {
	vfs, err := s.readVFs()
	if err != nil {
		return err
	}
	vf, err := s.front.vf("net1", vfs)
	if err != nil {
		return err
	}
	s.changed = vf.PCI
	s.heading("The pod %s changes its VF, and is deleted all the same", s.front)
	for _, command := range []string{
		"ip link set net1 down",
		"ip link set net1 name mine",
		"ip link set mine mtu 900",
	} {
		if err = s.do(s.front, strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}

// remove is the runtime's DEL of all, and the comparison with what was before.
func (s *show) remove(ctx context.Context) error {
	s.heading("DEL of all, and what is left")
	start := time.Now()
	for _, p := range s.pods() {
		if err := s.runtime.del(ctx, p); err != nil {
			return err
		}
	}
	took := time.Since(start)
	if err := s.vfs(0); err != nil {
		return err
	}
	if err := s.home(); err != nil {
		return err
	}
	return s.compare(ctx, took)
}

// home says how the VF is that the pod changed.
func (s *show) home() error {
	vf, err := sys.VF(s.changed)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(vf.Netdev)
	if err != nil {
		return fmt.Errorf("find VF %s: %w", s.changed, err)
	}
	s.say("\n  %s, which the pod called \"mine\", is %s again, its MTU %d.", vf.PCI, vf.Netdev, link.Attrs().MTU)
	return nil
}

// compare fails when anything differs from what was before the pods.
func (s *show) compare(ctx context.Context, took time.Duration) error {
	var err error
	after := ""
	// What the kernel takes away in its own time may take a moment.
	_ = eventually(ctx, func() error {
		if after, err = s.state(); err == nil && after != s.before {
			return errors.New("different")
		}
		return err
	})
	if err != nil {
		return err
	}
	if left := text.Difference(s.before, after); len(left) > 0 {
		s.say("\n%s", text.Indent(strings.Join(left, "\n"), "  "))
		return errors.New("DEL did not remove everything, see above; this is a bug: please report it with this output")
	}
	s.say("  The three DELs took %d ms.", took.Milliseconds())
	s.say("\n  Compared with before ADD: %d lines about the node's and the pods' namespaces, the files below", strings.Count(after, "\n"))
	s.say("  /etc/cni and /var/lib/cni (journals, claims of VFs, leases), and every PF and VF: name, address,")
	s.say("  MTU, VLAN, spoofchk, trust, rates, link state, up or down. Nothing differs.")
	return nil
}
