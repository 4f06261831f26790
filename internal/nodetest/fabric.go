package nodetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fabric is the network between the nodes: a bridge in a namespace of its own.
type fabric struct{ space *space }

const bridgeName = "fabric0"

func newFabric(program string) (*fabric, error) {
	s, err := newSpace(program, unix.CLONE_NEWNET)
	if err != nil {
		return nil, err
	}
	f := &fabric{space: s}
	if err = s.do(f.build); err != nil {
		return nil, errors.Join(fmt.Errorf("make fabric: %w", err), s.close())
	}
	return f, nil
}

func (f *fabric) build() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	return errors.Join(
		netlink.LinkAdd(bridge),
		netlink.LinkSetUp(bridge),
		// The nodes' gateway, which leads nowhere.
		netlink.AddrAdd(bridge, address("192.168.77.254/24")),
	)
}

// port is the fabric's end of the node's link.
func (n *Node) port() string { return fmt.Sprintf("port%d", n.number) }

// unplug removes the node's link, before the kernel does at its leisure.
func (f *fabric) unplug(n *Node) error {
	err := f.space.do(func() error {
		link, err := netlink.LinkByName(n.port())
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err != nil {
		return fmt.Errorf("disconnect %s from the fabric: %w", n.Name, err)
	}
	return nil
}

// plug connects a node, whose end is eth0, with its addresses, lo and a
// default route.
func (f *fabric) plug(n *Node) error {
	err := f.space.do(func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: n.port(), MasterIndex: bridge.Attrs().Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsPid(n.space.pid()),
		}
		return errors.Join(netlink.LinkAdd(veth), netlink.LinkSetUp(veth))
	})
	if err != nil {
		return fmt.Errorf("connect %s to the fabric: %w", n.Name, err)
	}
	return n.space.do(func() error {
		for _, name := range []string{"lo", "eth0"} {
			link, linkErr := netlink.LinkByName(name)
			if linkErr != nil {
				return linkErr
			}
			if linkErr = netlink.LinkSetUp(link); linkErr != nil {
				return linkErr
			}
		}
		eth0, linkErr := netlink.LinkByName("eth0")
		if linkErr != nil {
			return linkErr
		}
		return errors.Join(
			netlink.AddrAdd(eth0, address(n.IP.String()+"/24")),
			netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(192, 168, 77, 254)}),
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
		)
	})
}

// route tells a node by which other node the pods of that one are reached.
func (n *Node) route(to *Node) error {
	err := n.space.do(func() error {
		return netlink.RouteReplace(&netlink.Route{Dst: network(to.Pods), Gw: to.IP.AsSlice()})
	})
	if err != nil {
		return fmt.Errorf("route from %s to the pods of %s: %w", n.Name, to.Name, err)
	}
	return nil
}

func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func address(s string) *netlink.Addr {
	return &netlink.Addr{IPNet: network(netip.MustParsePrefix(s))}
}
