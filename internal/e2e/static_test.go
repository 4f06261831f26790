package e2e

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// A static pod, which kubelet has from a file and shows as a mirror, gets its
// networks as any other one, and leaves as little.
func staticPod(t *testing.T) {
	s := begin(t, "static")
	here, there := nodes[0], nodes[1]
	manifest, err := json.Marshal(server("static", "mirror", fast))
	s.must(err)
	file := nodetest.StaticPods + "/mirror.json"
	s.must(here.Write(file, string(manifest)))
	remove := func() error { return os.Remove(here.Path(file)) }
	s.Cleanup(func() { _ = remove() })
	peer := s.serves(there, "peer", fast)
	pod := s.ready("mirror-" + here.Name)
	s.must(pod.do(func() error { return matches(pod) }))
	for _, address := range pod.addresses("net1") {
		got, askErr := where(peer.do).asks("tcp", address, port)
		if askErr != nil || got.local != address {
			s.Errorf("%s: %+v, %v", address, got, askErr)
		}
	}
	s.carries(pod, "net1", "udp", peer.addresses("net1")[0], port)
	sandbox := s.sandbox(pod)
	s.must(remove())
	s.must(cluster.WaitGone("static", pod.Name))
	s.forgotten(here, sandbox)
}
