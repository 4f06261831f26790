package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pod is a pod's namespace, and the node's, where the plugin runs.
type pod struct {
	container, ifname string
	mac, hostMAC      string // once connected

	ns         netns.NsHandle
	node, here *netlink.Handle // here: in the pod
}

func enter(args *skel.CmdArgs) (*pod, error) {
	p := &pod{container: args.ContainerID, ifname: args.IfName}
	var err error
	if p.ns, err = netns.GetFromPath(args.Netns); err != nil {
		return nil, fmt.Errorf("open %s: %w", args.Netns, err)
	}
	if p.here, err = netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(err, p.ns.Close())
	}
	if p.node, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		p.here.Close()
		return nil, errors.Join(err, p.ns.Close())
	}
	return p, nil
}

func (p *pod) close() {
	p.node.Close()
	p.here.Close()
	_ = p.ns.Close()
}

// hostName is the name of the pod's link at the node's end.
func (p *pod) hostName() string {
	return fmt.Sprintf("shape%08x", crc32.ChecksumIEEE([]byte(p.container)))
}

// connect makes the link and everything on it.
func (p *pod) connect(plan *plan) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.hostName()
	// Calico's, so that the gateway's link-local address is always the same.
	attrs.HardwareAddr = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	if err := p.node.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: p.ifname, PeerNamespace: netlink.NsFd(p.ns)}); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	far, err := p.node.LinkByName(p.hostName())
	if err != nil {
		return err
	}
	near, err := p.here.LinkByName(p.ifname)
	if err != nil {
		return err
	}
	p.mac, p.hostMAC = near.Attrs().HardwareAddr.String(), far.Attrs().HardwareAddr.String()
	if err = p.prepareHost(far); err != nil {
		return err
	}
	if err = errors.Join(p.node.LinkSetUp(far), p.here.LinkSetUp(near)); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err = p.address(plan, far, near); err != nil {
		return err
	}
	return p.route(plan, far, near)
}

// prepareHost lets the host end answer for every address, at once.
func (p *pod) prepareHost(far netlink.Link) error {
	for path, value := range map[string]string{
		"ipv4/conf/%s/proxy_arp":    "1",
		"ipv4/neigh/%s/proxy_delay": "0",
		"ipv6/conf/%s/proxy_ndp":    "1",
		"ipv6/conf/%s/accept_dad":   "0",
	} {
		file := filepath.Join("/proc/sys/net", fmt.Sprintf(path, far.Attrs().Name))
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

// address gives the pod its addresses, the node a route to each, and the host
// end the gateways that are the node's own.
func (p *pod) address(plan *plan, far, near netlink.Link) error {
	for _, address := range plan.addresses {
		if err := p.here.AddrAdd(near, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
		route := &netlink.Route{LinkIndex: far.Attrs().Index, Dst: host(address.IP), Scope: netlink.SCOPE_LINK}
		if err := p.node.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s: %w", address, err)
		}
	}
	if plan.style == "calico" {
		return nil
	}
	for _, gw := range plan.gateways {
		if err := p.node.AddrAdd(far, &netlink.Addr{IPNet: host(gw), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add gateway %s: %w", gw, err)
		}
	}
	return nil
}

// route gives the pod its way to the gateways and its defaults.
func (p *pod) route(plan *plan, far, near netlink.Link) error {
	gateways := plan.gateways
	if plan.style == "calico" {
		local, err := p.linkLocal(far)
		if err != nil {
			return err
		}
		gateways = append(gateways, local)
	}
	index := near.Attrs().Index
	for _, gw := range gateways {
		if !gw.IsLinkLocalUnicast() || gw.To4() != nil {
			if err := p.here.RouteAdd(&netlink.Route{LinkIndex: index, Dst: host(gw), Scope: netlink.SCOPE_LINK}); err != nil {
				return fmt.Errorf("add route to %s: %w", gw, err)
			}
		}
		if err := p.here.RouteAdd(&netlink.Route{LinkIndex: index, Dst: whole(gw), Gw: gw}); err != nil {
			return fmt.Errorf("add default by %s: %w", gw, err)
		}
	}
	return nil
}

// linkLocal waits for the host end's own IPv6 address.
func (p *pod) linkLocal(far netlink.Link) (net.IP, error) {
	for giveUp := time.Now().Add(3 * time.Second); time.Now().Before(giveUp); time.Sleep(5 * time.Millisecond) {
		addrs, err := p.node.AddrList(far, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, addr := range addrs {
			if addr.IP.IsLinkLocalUnicast() {
				return addr.IP, nil
			}
		}
	}
	return nil, errors.New("the host end has no IPv6 link-local address")
}

func (p *pod) disconnect() error {
	link, err := p.here.LinkByName(p.ifname)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.here.LinkDel(link)
}

// compare looks for the pod's addresses, and for the routes of the result.
func (p *pod) compare(plan *plan) error {
	link, err := p.here.LinkByName(p.ifname)
	if err != nil {
		return err
	}
	for _, address := range plan.addresses {
		addrs, listErr := p.here.AddrList(link, family(address.IP))
		if listErr != nil {
			return listErr
		}
		if !hasAddress(addrs, address.IP) {
			return fmt.Errorf("%s has no address %s", p.ifname, address)
		}
	}
	for _, want := range plan.previous {
		if err = p.compareRoute(link, want); err != nil {
			return err
		}
	}
	return nil
}

func hasAddress(addrs []netlink.Addr, want net.IP) bool {
	for _, addr := range addrs {
		if addr.IP.Equal(want) {
			return true
		}
	}
	return false
}

func (p *pod) compareRoute(link netlink.Link, want *types.Route) error {
	// Not by link: an IPv6 route that has other hops too has none of its own.
	routes, err := p.here.RouteList(nil, family(want.Dst.IP))
	if err != nil {
		return err
	}
	for _, route := range routes {
		if route.Dst.String() == want.Dst.String() && leads(&route, link.Attrs().Index, want.GW) {
			return nil
		}
	}
	return fmt.Errorf("no route to %s by %s on %s", &want.Dst, want.GW, p.ifname)
}

// leads reports whether a route has a hop by the link and the gateway, if
// there is one.
func leads(route *netlink.Route, index int, gw net.IP) bool {
	if route.LinkIndex == index && (gw == nil || route.Gw.Equal(gw)) {
		return true
	}
	for _, hop := range route.MultiPath {
		if hop.LinkIndex == index && (gw == nil || hop.Gw.Equal(gw)) {
			return true
		}
	}
	return false
}

// host is the range of one address.
func host(ip net.IP) *net.IPNet {
	if four := ip.To4(); four != nil {
		return &net.IPNet{IP: four, Mask: net.CIDRMask(32, 32)}
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}
}

// whole is the range of the address's whole family.
func whole(ip net.IP) *net.IPNet {
	if ip.To4() != nil {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

func family(ip net.IP) int {
	if ip.To4() != nil {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
