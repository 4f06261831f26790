package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// hostLinkName is the host end's name: DEL must find it without the
// container's namespace.
func hostLinkName(leaseKey string) string {
	sum := sha256.Sum256([]byte(leaseKey))
	return "rec" + hex.EncodeToString(sum[:5])
}

// link makes a veth pair between the container and the plugin's own namespace,
// both ends up, with the lease's address, if there is a lease.
func (c *call) link() error {
	ns, err := netns.GetFromPath(c.netns)
	if err != nil {
		return cniError(codeIO, "open %s: %v", c.netns, err)
	}
	defer func() { _ = ns.Close() }()
	host := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: hostLinkName(c.leaseKey())},
		PeerName:      c.ifname,
		PeerNamespace: netlink.NsFd(ns),
	}
	if err = netlink.LinkAdd(host); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return cniError(codeExists, "link %s or its host end exists already", c.ifname)
		}
		return cniError(codeIO, "make link: %v", err)
	}
	if err = netlink.LinkSetUp(host); err != nil {
		return cniError(codeIO, "set %s up: %v", host.Name, err)
	}
	handle, inside, err := c.inside()
	if err != nil {
		return err
	}
	defer handle.Close()
	if err = handle.LinkSetUp(inside); err != nil {
		return cniError(codeIO, "set %s up: %v", c.ifname, err)
	}
	address, err := c.lease()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cniError(codeIO, "read lease: %v", err)
	}
	if err = handle.AddrAdd(inside, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return cniError(codeIO, "add address: %v", err)
	}
	return nil
}

// unlink removes the pair by its host end. None is fine.
func (c *call) unlink() error { return removeHostLink(c.leaseKey()) }

func removeHostLink(leaseKey string) error {
	link, err := netlink.LinkByName(hostLinkName(leaseKey))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return cniError(codeIO, "find link: %v", err)
	}
	if err = netlink.LinkDel(link); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return cniError(codeIO, "remove link: %v", err)
	}
	return nil
}

// checkLink fails when the link or the lease's address is not there.
func (c *call) checkLink() error {
	handle, inside, err := c.inside()
	if err != nil {
		return cniError(codeMissing, "%v", err)
	}
	defer handle.Close()
	if inside.Attrs().Flags&net.FlagUp == 0 {
		return cniError(codeMissing, "%s is down", c.ifname)
	}
	want, err := c.lease()
	if err != nil {
		return cniError(codeMissing, "no lease: %v", err)
	}
	addresses, err := handle.AddrList(inside, netlink.FAMILY_V4)
	if err != nil {
		return cniError(codeIO, "list addresses: %v", err)
	}
	for _, a := range addresses {
		if a.IPNet.String() == want.String() {
			return nil
		}
	}
	return cniError(codeMissing, "%s has no address %s", c.ifname, want)
}

// inside returns the container's link and a handle that acts on it.
func (c *call) inside() (*netlink.Handle, netlink.Link, error) {
	ns, err := netns.GetFromPath(c.netns)
	if err != nil {
		return nil, nil, cniError(codeIO, "open %s: %v", c.netns, err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, nil, cniError(codeIO, "enter %s: %v", c.netns, err)
	}
	link, err := handle.LinkByName(c.ifname)
	if err != nil {
		handle.Close()
		return nil, nil, cniError(codeIO, "find %s: %v", c.ifname, err)
	}
	return handle, link, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
