package sriov

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Linux is the running kernel.
type Linux struct{ Sys Sysfs }

// RTEXT_FILTER_* of linux/rtnetlink.h: what RTM_GETLINK reports besides.
const (
	filterVF        = 1 << 0
	filterSkipStats = 1 << 3
)

// ownNetns is the node's namespace. It is the thread's that asks, which nobody
// else uses: the process's is its main thread's, and podns.Within may have
// borrowed that one for a pod.
const ownNetns = "/proc/thread-self/ns/net"

// Open implements Kernel.
func (k Linux) Open(path string) (Netns, error) {
	if path == "" {
		path = ownNetns
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, network.Missing.Errorf("open network namespace %s: %w", path, err)
	}
	socket, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("enter network namespace %s: %w", path, err), ns.Close())
	}
	return &kernelNetns{path: path, ns: ns, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}}, nil
}

// kernelNetns is a Netns of the running kernel.
type kernelNetns struct {
	path    string
	ns      netns.NsHandle
	sockets map[int]*nl.SocketHandle
	handle  *netlink.Handle // for addresses and routes; nil until needed
}

func (n *kernelNetns) Close() {
	n.sockets[unix.NETLINK_ROUTE].Close()
	if n.handle != nil {
		n.handle.Close()
	}
	_ = n.ns.Close() // opened for reading: nothing can be lost
}

// request sends one message about a device (0 = all of them).
func (n *kernelNetns) request(kind, flags, index int, attrs ...*nl.RtAttr) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = n.sockets
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	for _, attr := range attrs {
		req.AddData(attr)
	}
	return req.Execute(unix.NETLINK_ROUTE, 0)
}

// set changes a device. RTM_NEWLINK without NLM_F_CREATE changes what is
// there; the kernel checks nothing twice that RTM_SETLINK would.
func (n *kernelNetns) set(index int, attrs ...*nl.RtAttr) error {
	_, err := n.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, index, attrs...)
	return err
}

func (n *kernelNetns) get(flags, index, filter int, attrs ...*nl.RtAttr) ([][]byte, error) {
	mask := nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(uint32(filter)))
	return n.request(unix.RTM_GETLINK, flags, index, append(attrs, mask)...)
}

func text(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(s)) }
func number(kind, value int) *nl.RtAttr  { return nl.NewRtAttr(kind, nl.Uint32Attr(uint32(value))) }

// wholeDump takes a dump, and anew if something changed in the middle of it.
func wholeDump[T any](dump func() (T, error)) (all T, err error) {
	for range 10 {
		if all, err = dump(); !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Links implements Netns.
func (n *kernelNetns) Links() ([]Link, error) {
	messages, err := wholeDump(func() ([][]byte, error) { return n.get(unix.NLM_F_DUMP, 0, filterSkipStats) })
	if err != nil {
		return nil, fmt.Errorf("list the network devices of %s: %w", n.path, err)
	}
	links := make([]Link, 0, len(messages))
	for _, m := range messages {
		link, readErr := readLink(m)
		if readErr != nil {
			return nil, readErr
		}
		links = append(links, link)
	}
	n.fillPCI(links)
	return links, nil
}

// LinkByName implements Netns.
func (n *kernelNetns) LinkByName(name string) (Link, error) {
	messages, err := n.get(unix.NLM_F_ACK, 0, filterSkipStats, text(unix.IFLA_IFNAME, name))
	if errors.Is(err, unix.ENODEV) || err == nil && len(messages) == 0 {
		return Link{}, fmt.Errorf("%s: %w", name, ErrNoLink)
	}
	if err != nil {
		return Link{}, fmt.Errorf("read network device %s: %w", name, err)
	}
	link, err := readLink(messages[0])
	return link, err
}

// Move implements Netns.
func (n *kernelNetns) Move(index int, to Netns, name string, mtu int) error {
	target, ok := to.(*kernelNetns)
	if !ok {
		return fmt.Errorf("move a device to a %T", to)
	}
	attrs := []*nl.RtAttr{number(unix.IFLA_NET_NS_FD, int(target.ns)), text(unix.IFLA_IFNAME, name)}
	if mtu != 0 {
		attrs = append(attrs, number(unix.IFLA_MTU, mtu))
	}
	return n.set(index, attrs...)
}

// Rename implements Netns.
func (n *kernelNetns) Rename(index int, name string) error {
	return n.set(index, text(unix.IFLA_IFNAME, name))
}

// SetMTU implements Netns.
func (n *kernelNetns) SetMTU(index, mtu int) error { return n.set(index, number(unix.IFLA_MTU, mtu)) }

// SetMAC implements Netns.
func (n *kernelNetns) SetMAC(index int, mac string) error {
	raw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("MAC address %q: %w", mac, err)
	}
	return n.set(index, nl.NewRtAttr(unix.IFLA_ADDRESS, raw))
}

// SetUp implements Netns.
func (n *kernelNetns) SetUp(index int, up bool) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.Sockets = n.sockets
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Change = int32(index), unix.IFF_UP
	if up {
		msg.Flags = unix.IFF_UP
	}
	req.AddData(msg)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// stickyFlags are those that a device takes along from one pod to the next.
const stickyFlags = unix.IFF_NOARP | unix.IFF_PROMISC | unix.IFF_ALLMULTI | unix.IFF_MULTICAST

// SetFlags implements Netns.
func (n *kernelNetns) SetFlags(index int, flags uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.Sockets = n.sockets
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, stickyFlags
	req.AddData(msg)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func hasXDP(list []byte) bool {
	attrs, _ := attributes(list)
	for _, a := range attrs {
		if a.kind == nl.IFLA_XDP_ATTACHED && len(a.value) > 0 && a.value[0] != 0 {
			return true
		}
	}
	return false
}

// AddAltName implements Netns.
func (n *kernelNetns) AddAltName(index int, name string) error {
	return n.altName(unix.RTM_NEWLINKPROP, index, name)
}

// DelAltName implements Netns.
func (n *kernelNetns) DelAltName(index int, name string) error {
	return n.altName(unix.RTM_DELLINKPROP, index, name)
}

func (n *kernelNetns) altName(kind, index int, name string) error {
	list := nl.NewRtAttr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
	list.AddRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(name))
	_, err := n.request(kind, unix.NLM_F_ACK, index, list)
	return err
}

// readLink takes a device over from RTM_NEWLINK.
func readLink(m []byte) (Link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return Link{}, fmt.Errorf("read a network device: %d bytes: %w", len(m), unix.EINVAL)
	}
	msg := nl.DeserializeIfInfomsg(m)
	attrs, err := attributes(m[msg.Len():])
	if err != nil {
		return Link{}, fmt.Errorf("read a network device: %w", err)
	}
	link := Link{Index: int(msg.Index), Up: msg.Flags&unix.IFF_UP != 0, Carrier: msg.Flags&unix.IFF_RUNNING != 0, Flags: msg.Flags & stickyFlags}
	for _, attr := range attrs {
		switch attr.kind {
		case unix.IFLA_IFNAME:
			link.Name = unix.ByteSliceToString(attr.value)
		case unix.IFLA_ADDRESS:
			link.MAC = net.HardwareAddr(attr.value).String()
		case unix.IFLA_MTU:
			link.MTU = word(attr.value)
		case unix.IFLA_MAX_MTU:
			link.MaxMTU = word(attr.value)
		case unix.IFLA_XDP:
			link.XDP = hasXDP(attr.value)
		case unix.IFLA_MASTER:
			link.Master = word(attr.value)
		case unix.IFLA_PARENT_DEV_NAME:
			link.PCI = unix.ByteSliceToString(attr.value)
		case unix.IFLA_PROP_LIST:
			if link.AltNames, err = readAltNames(attr.value); err != nil {
				return Link{}, err
			}
		}
	}
	return link, nil
}

func readAltNames(list []byte) ([]string, error) {
	attrs, err := attributes(list)
	if err != nil {
		return nil, fmt.Errorf("read a network device's names: %w", err)
	}
	var names []string
	for _, attr := range attrs {
		if attr.kind == unix.IFLA_ALT_IFNAME {
			names = append(names, unix.ByteSliceToString(attr.value))
		}
	}
	return names, nil
}

// attribute is one of a netlink message.
type attribute struct {
	kind  int
	value []byte
}

// attributes reads a list of them. The library's reader panics where a list
// ends within the padding of its last one.
func attributes(list []byte) ([]attribute, error) {
	var out []attribute
	for len(list) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(list))
		if size < unix.SizeofRtAttr || size > len(list) {
			return nil, unix.EINVAL
		}
		kind := binary.NativeEndian.Uint16(list[2:]) &^ unix.NLA_F_NESTED
		out = append(out, attribute{kind: int(kind), value: list[unix.SizeofRtAttr:size]})
		list = list[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(list)):]
	}
	return out, nil
}

func word(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b)))
}

// Addresses implements Netns.
func (n *kernelNetns) Addresses(index int) ([]netip.Prefix, error) {
	handle, err := n.library()
	if err != nil {
		return nil, err
	}
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	found, err := wholeDump(func() ([]netlink.Addr, error) { return handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []netip.Prefix
	for _, a := range found {
		if p := prefixOf(a.IPNet); p.IsValid() {
			out = append(out, p)
		}
	}
	return out, nil
}

// AddAddress implements Netns.
func (n *kernelNetns) AddAddress(index int, address netip.Prefix, detect bool) error {
	handle, err := n.library()
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: netOf(address)}
	switch {
	case address.Addr().Is6() && detect:
		a.Flags = unix.IFA_F_OPTIMISTIC
	case address.Addr().Is6():
		a.Flags = unix.IFA_F_NODAD
	}
	return handle.AddrAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}, a)
}

// AddRoute implements Netns.
func (n *kernelNetns) AddRoute(index int, r Route) error {
	handle, err := n.library()
	if err != nil {
		return err
	}
	out := &netlink.Route{
		LinkIndex: index, Dst: netOf(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table,
		Scope: netlink.SCOPE_LINK,
	}
	if r.Gateway.IsValid() {
		out.Gw, out.Scope = r.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	if r.Scope >= 0 {
		out.Scope = netlink.Scope(r.Scope)
	}
	// Another NIC may have a route to the same: as the reference plugins do, this
	// one goes before it. Which of them carries what is decided later.
	return handle.RouteAddEcmp(out)
}

// library returns a handle of the library, for what it does well.
func (n *kernelNetns) library() (*netlink.Handle, error) {
	if n.handle == nil {
		handle, err := netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("enter network namespace %s: %w", n.path, err)
		}
		n.handle = handle
	}
	return n.handle, nil
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the zero Prefix for what is no address.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}
