package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/demo/proof"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// quietNS makes a namespace without IPv6, whose neighbour discovery would be
// counted as packets of the pod.
func quietNS(prefix string) (*nettest.NS, error) {
	ns, err := nettest.NewNS(prefix)
	if err != nil {
		return nil, err
	}
	return ns, quiet(ns)
}

func quiet(ns *nettest.NS) error {
	return setConf(ns, "ipv6", "disable_ipv6", "1")
}

// forgiving makes a node forward packets also when their sender should have
// taken another way: the counters must tell, not the silence.
func forgiving(node *nettest.Node) error {
	return setConf(node.NS, "ipv4", "rp_filter", "0")
}

// setConf changes a setting of all links of a namespace, also of those to come.
func setConf(ns *nettest.NS, family, name, value string) error {
	return ns.Do(func() error {
		for _, which := range []string{"all", "default"} {
			path := "/proc/sys/net/" + family + "/conf/" + which + "/" + name
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set %s: %w", path, err)
			}
		}
		return nil
	})
}

// peer is a namespace with one NIC at the far end of a network. It knows the
// way back to the pod by the network's gateway too, so that packets on a wrong
// way get their answer: the counters must tell, not the silence.
type peer struct {
	what    string // for tables
	nic     string // of the pod, on the same network; "" = none, it is behind the gateways
	address *net.IPNet
	gateway net.IP
	ns      *nettest.NS // once plugged
}

// neighbour is the peer on the network of one of the pod's addresses: it has
// the subnet's last address, which host-local would give out last.
func neighbour(result *current.Result, ip *current.IPConfig) (*peer, error) {
	four := ip.Address.IP.To4()
	if four == nil || ip.Gateway == nil || ip.Interface == nil {
		return nil, fmt.Errorf("address %s: the demo needs IPv4 and a gateway: give the example network \"isGateway\": true", &ip.Address)
	}
	last := make(net.IP, len(four))
	for i, mask := range ip.Address.Mask {
		last[i] = four[i] | ^mask
	}
	last[len(last)-1]--
	nic := result.Interfaces[*ip.Interface].Name
	return &peer{
		what: "neighbour on " + nic, nic: nic,
		address: &net.IPNet{IP: last, Mask: ip.Address.Mask},
		gateway: ip.Gateway,
	}, nil
}

// distant is a peer that no network of a pod reaches directly. The node, to
// which it is plugged, is its gateway, with the first address of its subnet.
func distant(what string, address net.IP) *peer {
	mask := net.CIDRMask(24, 32)
	gateway := address.Mask(mask)
	gateway[len(gateway)-1]++
	return &peer{what: what, address: &net.IPNet{IP: address.To4(), Mask: mask}, gateway: gateway}
}

// plug connects the peer to the node: to the bridge that has the gateway's
// address, or, for a distant one, to a NIC of the node that gets it.
func (p *peer) plug(node *nettest.Node, name string) error {
	var err error
	if p.ns, err = quietNS(name + "-"); err != nil {
		return err
	}
	handle, err := node.Handle()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	var address *net.IPNet
	if p.nic == "" {
		address = &net.IPNet{IP: p.gateway, Mask: p.address.Mask}
	} else if attrs.MasterIndex, err = linkWith(handle, p.gateway); err != nil {
		return err
	}
	if err = handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-far"}); err != nil {
		return fmt.Errorf("add veth %s: %w", name, err)
	}
	far, err := handle.LinkByName(name + "-far")
	if err != nil {
		return err
	}
	if err = p.ns.Do(func() error { return moveHere(handle, far) }); err != nil {
		return err
	}
	if err = raise(handle, name, address); err != nil {
		return err
	}
	if err = p.configure(name + "-far"); err != nil {
		return err
	}
	return awaitUp(handle, name)
}

// moveHere brings a link into the namespace of the calling thread.
func moveHere(from *netlink.Handle, link netlink.Link) error {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = here.Close() }()
	return from.LinkSetNsFd(link, int(here.Fd()))
}

// configure gives the peer's NIC its address and its default route.
func (p *peer) configure(link string) error {
	handle, err := p.ns.Handle()
	if err != nil {
		return err
	}
	if err = raise(handle, link, p.address); err != nil {
		return err
	}
	if err = handle.RouteAdd(&netlink.Route{Gw: p.gateway}); err != nil {
		return fmt.Errorf("add default route by %s: %w", p.gateway, err)
	}
	return nil
}

// raise sets a link up, with an address if there is one.
func raise(handle *netlink.Handle, name string, address *net.IPNet) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return err
	}
	if address != nil {
		if err = handle.AddrAdd(link, &netlink.Addr{IPNet: address}); err != nil {
			return fmt.Errorf("add %s to %s: %w", address, name, err)
		}
	}
	if err = handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// awaitUp waits until a link with both ends up is in operation: the kernel
// says so a little later, and a bridge drops the port's packets before that.
func awaitUp(handle *netlink.Handle, name string) error {
	for giveUp := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		link, err := handle.LinkByName(name)
		if err != nil {
			return err
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(giveUp) {
			return fmt.Errorf("link %s is still %s after 5 s", name, link.Attrs().OperState)
		}
	}
}

// linkWith returns the index of the link that has the address.
func linkWith(handle *netlink.Handle, ip net.IP) (int, error) {
	addrs, err := handle.AddrList(nil, unix.AF_INET)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, addr := range addrs {
		if addr.IP.Equal(ip) {
			return addr.LinkIndex, nil
		}
	}
	return 0, fmt.Errorf("no link of the node has the gateway's address %s", ip)
}

// toPeer is the pod that asks a peer. It binds nothing, as most applications.
func toPeer(pod *nettest.NS, nic string, p *peer) proof.Trip {
	return proof.Trip{What: "to " + p.what, NIC: nic, To: p.address.IP, Asker: pod}
}

// fromPeer is a peer that asks an address of the pod.
func fromPeer(p *peer, n *nic) proof.Trip {
	return proof.Trip{What: "from " + p.what + " to " + n.Name, NIC: n.Name, From: p.address.IP, To: n.addresses[0].IP, Asker: p.ns}
}
