package e2e

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// hostPort is the node's, for the pod of the scenario.
const hostPort = 18080

// A hostPort, which the plugin chained behind flannel opens, leads to the pod
// from the other node and its pods, over both families, and is closed with it.
func hostPorts(t *testing.T) {
	s := begin(t, "hostport")
	here, there := nodes[0], nodes[1]
	pod := server("hostport", "open", fast)
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{Name: "tcp", ContainerPort: port, HostPort: hostPort, Protocol: corev1.ProtocolTCP},
		{Name: "udp", ContainerPort: port, HostPort: hostPort, Protocol: corev1.ProtocolUDP},
	}
	s.creates(here, pod)
	peer, open := s.serves(there, "peer", ""), s.ready("open")
	for _, address := range []string{here.IP.String(), here.IP6.String()} {
		for _, network := range []string{"tcp", "udp"} {
			s.servedBy(there.Do, network, address, hostPort, open)
			s.servedBy(peer.do, network, address, hostPort, open)
		}
	}
	s.must(cluster.DeletePod("hostport", "open"))
	for _, address := range []string{here.IP.String(), here.IP6.String()} {
		s.must(there.Do(func() error {
			return until(func() error {
				if _, err := ask("tcp", address, hostPort, retryWait); err == nil {
					return errors.New("the port still answers")
				}
				return nil
			})
		}))
	}
}
