package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// Forty pods with two networks each come at once, with every NIC, no address
// twice and network-status before the container; when they have gone, the
// nodes are as before.
func fortyPods(t *testing.T) {
	s := begin(t, "forty")
	// What the first pod of a network makes for good: bridges, lease files.
	s.burst("warm", len(nodes))
	s.gone("warm", len(nodes))
	before := s.look()
	const count = 40
	began := time.Now()
	pods := s.burst("pod", count)
	s.Logf("%d pods run after %.1f s", count, time.Since(began).Seconds())
	owner := map[string]string{}
	for _, l := range pods {
		s.must(l.do(func() error { return matches(l) }))
		for _, nic := range []string{"eth0", "net1", "net2"} {
			addresses := l.addresses(nic)
			if len(addresses) == 0 {
				s.Errorf("%s of %s has no address: %+v", nic, l.Name, l.statuses)
			}
			for _, address := range addresses {
				if owner[address] != "" {
					s.Errorf("%s and %s of %s have the address %s", owner[address], nic, l.Name, address)
				}
				owner[address] = nic + " of " + l.Name
			}
		}
	}
	s.statusFirst(pods)
	began = time.Now()
	s.gone("pod", count)
	s.Logf("%d pods have gone after %.1f s", count, time.Since(began).Seconds())
	s.same(before)
	for _, n := range nodes {
		s.must(until(func() error { return empty(n) }))
	}
}

// burst creates the pods, one after the other on each node in turn, and
// returns them when all run.
func (s *scenario) burst(name string, count int) []live {
	s.Helper()
	for i := range count {
		pod := nodetest.NewPod("forty", fmt.Sprintf("%s-%d", name, i))
		pod.Annotations = server("", "", fmt.Sprintf(`[{"name":"fast","namespace":"default"},{"name":"bulk","namespace":"default","ips":["10.72.40.%d/16"]}]`, i+1)).Annotations
		s.creates(nodes[i%len(nodes)], pod)
	}
	var pods []live
	for i := range count {
		pod, err := cluster.WaitRunning(nodetest.NewPod("forty", fmt.Sprintf("%s-%d", name, i)))
		s.must(err)
		pod, err = cluster.WaitPod("forty", pod.Name, "shows its networks", func(p *corev1.Pod) (bool, string) { return shows(p), "no network-status" })
		s.must(err)
		pods = append(pods, s.live(pod))
	}
	return pods
}

// gone deletes the pods at once and returns when none is there.
func (s *scenario) gone(name string, count int) {
	s.Helper()
	for i := range count {
		s.must(cluster.BeginDelete("forty", fmt.Sprintf("%s-%d", name, i)))
	}
	for i := range count {
		s.must(cluster.WaitGone("forty", fmt.Sprintf("%s-%d", name, i)))
	}
}

// statusFirst compares when network-status came with the first thing that each
// container wrote. It may be late where the agent says that the API server
// did not take it in time: no pod waits for that.
func (s *scenario) statusFirst(pods []live) {
	s.Helper()
	published := s.published()
	for _, l := range pods {
		if published[l.Name].IsZero() {
			s.Fatalf("nobody published the networks of %s", l.Name)
		}
		_, start, err := l.node.Environment(l.Pod, "app")
		s.must(err)
		said := published[l.Name]
		if said.Before(start) {
			continue
		}
		if !s.slowAPI(l) {
			s.Errorf("network-status of %s came at %s, its container had started at %s", l.Name, said, start)
		}
	}
}

// slowAPI says whether the pod's agent found the API server too slow, since
// the pod was made or so shortly before that no plugin waits for it.
func (s *scenario) slowAPI(l live) bool {
	s.Helper()
	lines, err := agentLog(l.node)
	s.must(err)
	return slices.ContainsFunc(lines, func(line nodetest.Line) bool {
		return strings.Contains(line.Text, "network-status is tried again") && strings.Contains(line.Text, "deadline exceeded") &&
			line.Time.After(l.CreationTimestamp.Add(-15*time.Second))
	})
}

// look waits until nothing of a pod runs any more, and shows both nodes.
func (s *scenario) look() string {
	s.Helper()
	all, err := nodetest.Still(len(nodes), snapshot) // one shim each is the agent's
	s.must(err)
	return all
}

// same expects that the nodes are as before, as soon as the runtime has done
// what it does after a pod's object has gone.
func (s *scenario) same(before string) {
	s.Helper()
	after := ""
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		after, err = snapshot()
		s.must(err)
	}
	nettest.RequireSame(s.T, before, after)
}

func snapshot() (string, error) {
	var all strings.Builder
	for _, n := range nodes {
		one, err := nettest.Snapshot(n.SnapshotOptions())
		if err != nil {
			return "", err
		}
		all.WriteString(n.Name + "\n" + one)
	}
	return all.String(), nil
}

// empty says what on the node speaks of any pod.
func empty(n *nodetest.Node) error {
	var left []error
	for _, dir := range []string{"networks", "flannel", "results", "multiplexer/journal", "multiplexer/running", "multiplexer/release"} {
		left = append(left, filepath.WalkDir(n.Path("/var/lib/cni/"+dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return ignoreGone(err)
			}
			// host-local's own.
			if name := entry.Name(); name == "lock" || strings.HasPrefix(name, "last_reserved_ip.") {
				return nil
			}
			return errors.New(path + " is left")
		}))
	}
	return errors.Join(left...)
}
