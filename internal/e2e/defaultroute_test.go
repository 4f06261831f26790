package e2e

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// With "default-route", what goes outside leaves by net1, and all of the
// cluster stays on eth0: probes, pods, Services in both directions, and the
// API server. Both families.
func defaultRoute(t *testing.T) {
	s := begin(t, "route")
	outside := s.outside()
	s.grantAsk()
	var moved, plain []live
	for i, n := range nodes {
		networks := fmt.Sprintf(`[{"name":"wan","namespace":"default","ips":["198.51.100.%d/24","2001:db8:51::%d/64"],"default-route":[%q,%q]}]`,
			11+i, 11+i, nodetest.WireGateway, nodetest.WireGateway6)
		pod := server("route", "moved-"+n.Name, networks)
		pod.Labels["app"] = "moved"
		askFirst(pod)
		s.creates(n, pod)
		pod = server("route", "plain-"+n.Name, "")
		pod.Labels["app"] = "plain"
		s.creates(n, pod)
	}
	movedService, plainService := s.service("moved"), s.service("plain")
	for _, n := range nodes {
		moved, plain = append(moved, s.ready("moved-"+n.Name)), append(plain, s.ready("plain-"+n.Name))
	}
	for family, address := range []string{nodetest.Outside, nodetest.Outside6} {
		for _, l := range plain {
			s.expects(l.do, "tcp", address, outside, answer{"outside", address, l.addresses("eth0")[family]})
		}
		for _, l := range moved {
			s.expects(l.do, "tcp", address, outside, answer{"outside", address, l.addresses("net1")[family]})
			s.carries(l, "net1", "tcp", address, outside)
			// It is reached from outside by each of its NICs.
			for _, nic := range []string{"eth0", "net1"} {
				own := l.addresses(nic)[family]
				got, err := where(cluster.DoOutside).asks("tcp", own, port)
				if err != nil || got.local != own {
					s.Errorf("from outside to %s: %+v, %v", own, got, err)
				}
			}
			askers := s.servedBy(l.do, "tcp", plainService[family], 80, plain...)
			if want := []string{l.addresses("eth0")[family]}; !slices.Equal(askers, want) {
				s.Errorf("%s asked %s as %v, want %v", l.Name, plainService[family], askers, want)
			}
			s.carries(l, "eth0", "udp", plainService[family], 80)
		}
		for _, from := range []where{plain[0].do, plain[1].do, nodes[0].Do, nodes[1].Do} {
			s.servedBy(from, "tcp", movedService[family], 80, moved...)
			s.servedBy(from, "udp", movedService[family], 80, moved...)
		}
	}
	s.carries(moved[0], "eth0", "udp", moved[1].Status.PodIP, port)
	s.reaches(plain[0].do, moved[1].Status.PodIP, answer{moved[1].Name, moved[1].Status.PodIP, plain[0].Status.PodIP})
}

// outside answers connections outside of the cluster and returns at which
// port.
func (s *scenario) outside() int {
	s.Helper()
	var listener net.Listener
	s.must(cluster.DoOutside(func() error {
		var err error
		listener, err = net.Listen("tcp", ":0")
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			local, _, _ := net.SplitHostPort(conn.LocalAddr().String())
			remote, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			_, _ = fmt.Fprintf(conn, "outside %s %s\n", local, remote)
			_ = conn.Close()
		}
	}()
	s.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	_, text, err := net.SplitHostPort(listener.Addr().String())
	s.must(err)
	number, err := strconv.Atoi(text)
	s.must(err)
	return number
}
