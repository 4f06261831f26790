package nodetest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fabric is what connects the nodes, bridges in a namespace of their own, and
// the world outside.
type fabric struct{ space *space }

// wire is a bridge of the fabric, and a NIC of each node.
type wire struct {
	bridge, nic string
	addresses   []string // the bridge's
}

// wires are the network of the nodes, with their gateway, and two more that
// the nodes have no address on, for the networks of pods.
func wires() []wire {
	return []wire{
		{"fabric0", "eth0", []string{nodeGateway + "/24", nodeGateway6 + "/64"}},
		{"wire1", "eth1", []string{WireGateway + "/24", WireGateway6 + "/64"}},
		{"wire2", "eth2", nil},
	}
}

const (
	nodeGateway  = "192.168.77.254"
	nodeGateway6 = "fd00:77::fe"
)

func newFabric(program string) (*fabric, error) {
	s, err := newSpace(program, unix.CLONE_NEWNET)
	if err != nil {
		return nil, err
	}
	f := &fabric{space: s}
	if err = s.do(build); err != nil {
		return nil, errors.Join(fmt.Errorf("make fabric: %w", err), s.close())
	}
	return f, nil
}

func build() error {
	if err := bringUp("lo", Outside+"/32", Outside6+"/128"); err != nil {
		return err
	}
	for _, w := range wires() {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: w.bridge}}); err != nil {
			return err
		}
		if err := bringUp(w.bridge, w.addresses...); err != nil {
			return err
		}
	}
	return nil
}

// bringUp gives a link of this namespace its addresses and sets it up.
func bringUp(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err = netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	for _, a := range addresses {
		if err = netlink.AddrAdd(link, address(a)); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, a, err)
		}
	}
	return nil
}

// port is the fabric's end of the node's link of a wire.
func (n *Node) port(w wire) string { return fmt.Sprintf("port%d-%s", n.number, w.nic) }

// unplug removes the node's links, before the kernel does at its leisure.
func (f *fabric) unplug(n *Node) error {
	err := f.space.do(func() error {
		for _, w := range wires() {
			link, err := netlink.LinkByName(n.port(w))
			if errors.As(err, &netlink.LinkNotFoundError{}) {
				continue
			}
			if err == nil {
				err = netlink.LinkDel(link)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("disconnect %s from the fabric: %w", n.Name, err)
	}
	return nil
}

// plug connects a node, whose end of each wire is eth0, eth1 and so on. eth0
// has the node's addresses and leads to the gateway.
func (f *fabric) plug(n *Node) error {
	err := f.space.do(func() error {
		for _, w := range wires() {
			if err := n.connect(w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connect %s to the fabric: %w", n.Name, err)
	}
	return n.space.do(n.setUpLinks)
}

func (n *Node) connect(w wire) error {
	bridge, err := netlink.LinkByName(w.bridge)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: n.port(w), MasterIndex: bridge.Attrs().Index},
		PeerName:      w.nic,
		PeerNamespace: netlink.NsPid(n.space.pid()),
	}
	return errors.Join(netlink.LinkAdd(veth), netlink.LinkSetUp(veth))
}

// setUpLinks runs in the node's namespace.
func (n *Node) setUpLinks() error {
	if err := bringUp("lo", apiAddress+"/32"); err != nil {
		return err
	}
	for _, w := range wires() {
		var own []string
		if w.nic == "eth0" {
			own = []string{n.IP.String() + "/24", n.IP6.String() + "/64"}
		}
		if err := bringUp(w.nic, own...); err != nil {
			return err
		}
	}
	for _, gateway := range []string{nodeGateway, nodeGateway6} {
		if err := netlink.RouteAdd(&netlink.Route{Gw: netip.MustParseAddr(gateway).AsSlice()}); err != nil {
			return fmt.Errorf("default route by %s: %w", gateway, err)
		}
	}
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644),
	)
}

// route tells the namespaces of where by which node its pods are reached.
func (n *Node) route(where *space) error {
	err := where.do(func() error {
		return errors.Join(
			netlink.RouteReplace(&netlink.Route{Dst: network(n.Pods), Gw: n.IP.AsSlice()}),
			netlink.RouteReplace(&netlink.Route{Dst: network(n.Pods6), Gw: n.IP6.AsSlice()}),
		)
	})
	if err != nil {
		return fmt.Errorf("route to the pods of %s: %w", n.Name, err)
	}
	return nil
}

// DoOutside runs f on a thread outside of the cluster, where [Outside] is an
// address of one's own. Pods' addresses are routed there: nobody translates
// them.
func (c *Cluster) DoOutside(f func() error) error { return c.fabric.space.do(f) }
