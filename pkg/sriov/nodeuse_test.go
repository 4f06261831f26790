package sriov_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// use says what the node uses a VF of the model for, 3 = the PF itself.
func use(t *testing.T, m *sriovtest.Model, vf int) string {
	t.Helper()
	u, err := sriov.LookAtNode(m.Sys(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	pf, err := m.Sys().PFByName(m.PF())
	if err != nil {
		t.Fatal(err)
	}
	d := &sriov.Device{PCI: pf.PCI, PF: *pf, Index: -1, Netdev: pf.Name}
	if vf < len(pf.VFs) {
		if d, err = m.Sys().VF(pf.VFs[vf]); err != nil {
			t.Fatal(err)
		}
	}
	why, err := u.Of(d)
	if err != nil {
		t.Fatal(err)
	}
	return why
}

func TestNodeUse(t *testing.T) {
	driver := sriovtest.Capable()
	driver.VFs = 2
	const pf = 2
	m := sriovtest.NewModel(t, driver)
	host, err := m.Open("")
	if err != nil {
		t.Fatal(err)
	}
	index := func(name string) int {
		link, linkErr := host.LinkByName(name)
		if linkErr != nil {
			t.Fatal(linkErr)
		}
		return link.Index
	}
	uplink, vf0, vf1 := index(m.PF()), index(m.PF()+"v0"), index(m.PF()+"v1")
	require := func(what string, device int, want string) {
		t.Helper()
		if got := use(t, m, device); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: device %d: %q, want %q", what, device, got, want)
		}
	}
	for device := range 3 {
		require("nothing", device, "")
	}
	for _, i := range []int{uplink, vf0} {
		if err = host.AddAddress(i, netip.MustParsePrefix("192.0.2.1/24"), false); err != nil {
			t.Fatal(err)
		}
	}
	require("an address", pf, "has the address 192.0.2.1/24 on the node")
	require("an address", 0, "")
	m.SetDefaultRoutes(sriov.DefaultRoute{Link: uplink, Priority: 100}, sriov.DefaultRoute{Link: vf0, Priority: 200}, sriov.DefaultRoute{Link: vf1, IPv6: true, Priority: 1024})
	require("default routes", pf, "has a default route of the node")
	require("a worse default route", 0, "")
	require("the only one of IPv6", 1, "has a default route of the node")
	m.SetDefaultRoutes(sriov.DefaultRoute{Link: uplink, Priority: 100}, sriov.DefaultRoute{Link: vf0, Priority: 50})
	require("a worse default route", pf, "has a default route of the node")
	require("the best default route", 0, "has a default route of the node")
	m.SetDefaultRoutes()
	if err = os.Mkdir(filepath.Join(string(m.Sys()), "class", "net", m.PF()+"v1", "upper_vlan7"), 0o755); err != nil {
		t.Fatal(err)
	}
	require("a VLAN", 1, "has vlan7 of the node on it")
	require("a VLAN on another", 0, "")
}

// realNode is a network namespace as the node's, to look at and to change.
func realNode(t *testing.T) (sriov.Netns, *netlink.Handle) {
	t.Helper()
	ns := nettest.Namespace(t, "node-")
	host, err := sriov.Linux{}.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	h, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return host, h
}

// The kernel's own answer: of both families, in the main table only, and of
// several next hops each.
func TestDefaultRoutes(t *testing.T) {
	host, h := realNode(t)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("add", h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}))
	var index []int
	for i, name := range []string{"a", "b"} {
		link, linkErr := h.LinkByName(name)
		must("find", linkErr)
		must("up", h.LinkSetUp(link))
		for _, text := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
			address, parseErr := netlink.ParseAddr(text)
			must("parse", parseErr)
			address.IP[len(address.IP)-2] = byte(i) // a network of its own
			if address.IP.To4() == nil {
				address.IP[7], address.Flags = byte(i), unix.IFA_F_NODAD
			}
			must("address", h.AddrAdd(link, address))
		}
		index = append(index, link.Attrs().Index)
	}
	v4 := []*netlink.NexthopInfo{{LinkIndex: index[0], Gw: netip.MustParseAddr("192.0.0.9").AsSlice()}, {LinkIndex: index[1], Gw: netip.MustParseAddr("192.0.1.9").AsSlice()}}
	must("IPv4", h.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, MultiPath: v4, Priority: 100}))
	must("another table", h.RouteAdd(&netlink.Route{LinkIndex: index[0], Gw: v4[0].Gw, Table: 100}))
	must("IPv6", h.RouteAdd(&netlink.Route{LinkIndex: index[1], Gw: netip.MustParseAddr("2001:db8:0:1::9").AsSlice(), Priority: 7}))
	got, err := host.DefaultRoutes()
	must("list", err)
	want := map[sriov.DefaultRoute]bool{
		{Link: index[0], Priority: 100}: true, {Link: index[1], Priority: 100}: true, {Link: index[1], IPv6: true, Priority: 7}: true,
	}
	for _, route := range got {
		if !want[route] {
			t.Errorf("unexpected %+v", route)
		}
		delete(want, route)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v in %v", want, got)
	}
}
