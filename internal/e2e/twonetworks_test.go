package e2e

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
)

// Pods of two nodes reach each other on each of two secondary networks, by the
// NIC of that network, and by eth0 as ever.
func twoNetworks(t *testing.T) {
	s := begin(t, "two")
	var pods []live
	for i, n := range nodes {
		s.creates(n, server("two", n.Name, fmt.Sprintf(`[{"name":"fast","namespace":"default"},{"name":"bulk","namespace":"default","ips":["10.72.1.%d/16"]}]`, i+1)))
	}
	for _, n := range nodes {
		pods = append(pods, s.ready(n.Name))
	}
	for i, from := range pods {
		to := pods[1-i]
		s.must(from.do(func() error { return matches(from) }))
		for _, nic := range []string{"eth0", "net1", "net2"} {
			if len(to.addresses(nic)) == 0 {
				s.Fatalf("%s of %s has no address: %+v", nic, to.Name, to.statuses)
			}
			address := to.addresses(nic)[0]
			s.reaches(from.do, address, answer{to.Name, address, from.addresses(nic)[0]})
			s.carries(from, nic, "udp", address, port)
			if nic != "eth0" {
				s.must(from.do(func() error { return neighbour(to, nic, address) }))
			}
		}
	}
}

// matches compares network-status with the links of this thread's namespace.
func matches(l live) error {
	var errs []error
	for _, status := range l.statuses {
		link, err := net.InterfaceByName(status.Interface)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if link.HardwareAddr.String() != status.Mac {
			errs = append(errs, fmt.Errorf("%s has %s, network-status says %s", link.Name, link.HardwareAddr, status.Mac))
		}
		addresses, err := link.Addrs()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, ip := range status.IPs {
			if !has(addresses, ip) {
				errs = append(errs, fmt.Errorf("%s has %v, network-status says %s", link.Name, addresses, ip))
			}
		}
	}
	if len(l.statuses) < 2 {
		errs = append(errs, fmt.Errorf("network-status of %s: %+v", l.Name, l.statuses))
	}
	return errors.Join(errs...)
}

func has(addresses []net.Addr, ip string) bool {
	for _, a := range addresses {
		if prefix, ok := a.(*net.IPNet); ok && prefix.IP.String() == ip {
			return true
		}
	}
	return false
}

// neighbour expects that the address was found on the wire of the NIC, at the
// other pod's NIC of the same name.
func neighbour(to live, nic, address string) error {
	status, err := to.status(nic)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(nic)
	if err != nil {
		return err
	}
	list, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.IP.String() == address && n.HardwareAddr.String() == status.Mac {
			return nil
		}
	}
	return fmt.Errorf("%s has not found %s at %s: %v", nic, address, status.Mac, list)
}
