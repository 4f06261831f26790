package e2e

import (
	"net/netip"
	"testing"
)

// Both families on eth0 and on net1, and a Service of both.
func dualStack(t *testing.T) {
	s := begin(t, "dual")
	var pods []live
	for _, n := range nodes {
		pod := server("dual", n.Name, fast)
		pod.Labels["app"] = "dual"
		s.creates(n, pod)
	}
	service := s.service("dual")
	for _, n := range nodes {
		pods = append(pods, s.ready(n.Name))
	}
	for i, from := range pods {
		to := pods[1-i]
		for _, nic := range []string{"eth0", "net1"} {
			addresses := to.addresses(nic)
			if len(addresses) != 2 || !netip.MustParseAddr(addresses[0]).Is4() || !netip.MustParseAddr(addresses[1]).Is6() {
				s.Fatalf("%s of %s has %v, want one address of each family", nic, to.Name, addresses)
			}
			for family, address := range addresses {
				s.reaches(from.do, address, answer{to.Name, address, from.addresses(nic)[family]})
				s.carries(from, nic, "udp", address, port)
			}
		}
		for _, address := range service {
			s.servedBy(from.do, "tcp", address, 80, pods...)
			s.servedBy(from.do, "udp", address, 80, pods...)
		}
	}
}
