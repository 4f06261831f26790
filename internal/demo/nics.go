package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// nic is a network interface of the pod, as the kernel shows it.
type nic struct {
	name, mac string
	addresses []string
	mtu       int
	carries   []string // by the main routing table
}

// readNICs lists the pod's NICs without lo, in the order they came.
func readNICs(pod *nettest.NS) ([]nic, error) {
	handle, err := pod.Handle()
	if err != nil {
		return nil, err
	}
	links, err := handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the pod's NICs: %w", err)
	}
	var nics []nic
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		n, readErr := readNIC(handle, link)
		if readErr != nil {
			return nil, fmt.Errorf("read NIC %s: %w", link.Attrs().Name, readErr)
		}
		nics = append(nics, n)
	}
	return nics, nil
}

func readNIC(handle *netlink.Handle, link netlink.Link) (nic, error) {
	attrs := link.Attrs()
	n := nic{name: attrs.Name, mac: attrs.HardwareAddr.String(), mtu: attrs.MTU}
	addrs, err := handle.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return n, fmt.Errorf("list addresses: %w", err)
	}
	for _, addr := range addrs {
		n.addresses = append(n.addresses, addr.IPNet.String())
	}
	routes, err := handle.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return n, fmt.Errorf("list routes: %w", err)
	}
	n.carries = carried(routes)
	return n, nil
}

// carried says what the routes of a NIC send by it.
func carried(routes []netlink.Route) []string {
	var subnets, rest []string
	for _, route := range routes {
		if route.Dst == nil || route.Dst.String() == "0.0.0.0/0" {
			rest = append(rest, "everything else")
		} else {
			subnets = append(subnets, route.Dst.String())
		}
	}
	return append(subnets, rest...)
}

// row is the NIC's row in a table whose columns are nicHeader's.
func (n *nic) row(networkName string) []string {
	return []string{n.name, networkName, n.mac, strings.Join(n.addresses, ", "), strconv.Itoa(n.mtu), strings.Join(n.carries, ", ")}
}

func nicHeader() []string {
	return []string{"NIC", "NETWORK", "MAC", "ADDRESS", "MTU", "CARRIES"}
}

func names(nics []nic) []string {
	out := make([]string, len(nics))
	for i := range nics {
		out[i] = nics[i].name
	}
	return out
}
