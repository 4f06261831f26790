package runtimetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// Fifty pods start and stop at the same time.
func TestManyPodsAtOnce(t *testing.T) {
	for _, runtime := range []string{containerd, crio} {
		t.Run(runtime, func(t *testing.T) {
			s := newSite(t)
			// All of them at once is what is judged, not how long they take of the
			// machine.
			s.multiplexer(func(_, plugin object) { plugin["timeout"] = object{"add": "10m", "del": "5m"} })
			s.start(runtime)
			networks := []string{"storage", "telemetry"}
			before := s.settled(networks...)
			const count = 50
			pods := make([]Pod, count)
			for i := range pods {
				pods[i], _ = s.newPod(fmt.Sprintf("pod-%02d", i), networks...)
			}
			replies := make([]Reply, count)
			together(pods, func(i int, pod Pod) {
				var err error
				if replies[i], err = s.do(Call{Verb: "setup", Pod: pod}); err != nil {
					t.Errorf("setup of %s: %v", pod.Name, err)
				}
			})
			if t.Failed() {
				return // the rest would only repeat it
			}
			owner := map[string]string{}
			for i, reply := range replies {
				ips := s.result(reply).IPs
				if len(ips) != 3 {
					t.Errorf("%s has %d addresses, want 3", pods[i].Name, len(ips))
				}
				for _, ip := range ips {
					address := ip.Address.IP.String()
					if other, taken := owner[address]; taken {
						t.Errorf("%s and %s both have %s", other, pods[i].Name, address)
					}
					owner[address] = pods[i].Name
				}
				if !slices.Equal(reply.IPs[:1], []string{ips[0].Address.IP.String()}) {
					t.Errorf("%s: pod IPs %v do not begin with the cluster network's %s", pods[i].Name, reply.IPs, ips[0].Address.IP)
				}
			}
			together(pods, func(_ int, pod Pod) {
				if _, err := s.do(Call{Verb: "check", Pod: pod}); err != nil {
					t.Errorf("check of %s: %v", pod.Name, err)
				}
			})
			together(pods, func(_ int, pod Pod) {
				if _, err := s.do(Call{Verb: "remove", Pod: pod}); err != nil {
					t.Errorf("remove of %s: %v", pod.Name, err)
				}
			})
			s.same(before)
		})
	}
}

// together calls f for all pods at the same time.
func together(pods []Pod, f func(i int, pod Pod)) {
	var all sync.WaitGroup
	for i, pod := range pods {
		all.Go(func() { f(i, pod) })
	}
	all.Wait()
}
