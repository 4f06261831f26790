package main

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// attached fails unless the pod has the VF as the network wants it: a side
// that does less would be measured for it.
func (m *machine) attached(more settings) error {
	handle, err := m.pod.Handle()
	if err != nil {
		return err
	}
	link, err := handle.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", ifname, err)
	}
	addresses, err := handle.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	routes, err := handle.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	up := link.Attrs().Flags&net.FlagUp != 0
	if !up || link.Attrs().MTU != mtu || len(addresses) != 1 || len(routes) != 2 {
		return fmt.Errorf("the pod has %+v with the addresses %v and the routes %v", link.Attrs(), addresses, routes)
	}
	want := knobs{spoofchk: true}
	if len(more) > 0 {
		want = asked(more)
	}
	return m.holds(want)
}

// home fails unless the VF is on the node, as it was.
func (m *machine) home() error {
	link, err := netlink.LinkByName(m.vf.name)
	if err != nil {
		return fmt.Errorf("find the VF on the node: %w", err)
	}
	if a := link.Attrs(); a.MTU != m.vf.mtu || a.Flags&net.FlagUp != 0 {
		return fmt.Errorf("the VF came home as %+v", a)
	}
	return m.holds(knobs{spoofchk: true})
}

// holds fails unless the PF holds these settings for the VF.
func (m *machine) holds(want knobs) error {
	pf, err := netlink.LinkByIndex(m.link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, have := range pf.Attrs().Vfs {
		if have.ID != m.vf.index {
			continue
		}
		if got := (knobs{have.Vlan, have.Spoofchk, have.Trust != 0}); got != want {
			return fmt.Errorf("the PF holds %+v for the VF, want %+v", got, want)
		}
		return nil
	}
	return fmt.Errorf("PF %s does not report VF %d", m.pf.Name, m.vf.index)
}
