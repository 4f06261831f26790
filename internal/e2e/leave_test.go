package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// Both ways of docs/deploy.md in which multiplexer leaves: its objects are
// deleted from under the pods, and then, after it came again, as it should be.
func leave(t *testing.T) {
	s := begin(t, "leave")
	here := nodes[0]
	old, plain := s.serves(here, "old", fast), s.serves(here, "plain", "")
	sandbox := s.sandbox(old)

	s.must(cluster.DeleteFiles(deploy + "install.yaml"))
	s.must(until(func() error { return s.running("agent", 0) }))
	s.refused(here, "late", "see that multiplexerd runs there")
	s.answers(plain, s.serves(here, "after", ""))
	s.must(cluster.DeletePod("leave", "old"))
	s.forgotten(here, sandbox)

	s.must(cluster.ApplyFiles(deploy + "install.yaml"))
	s.must(ready("multiplexer", len(nodes)))
	late := s.ready("late")
	s.must(late.do(func() error { return matches(late) }))

	s.must(cluster.ApplyFiles(deploy + "uninstall.yaml"))
	s.must(ready("multiplexer-uninstall", 1))
	s.placed(nodes[1], false)
	s.must(until(func() error { // it may begin later than the other one ends
		_, err := os.Stat(here.Path("/var/lib/cni/multiplexer/uninstalling"))
		return err
	}))
	s.placed(here, true) // it waits for its last pod with networks
	s.refused(here, "refused", "multiplexer is being uninstalled from this node")
	s.must(cluster.DeletePod("leave", "refused"))
	sandbox = s.sandbox(late)
	s.must(cluster.DeletePod("leave", "late"))
	s.must(ready("multiplexer-uninstall", len(nodes)))
	s.placed(here, false)
	s.forgotten(here, sandbox)
	s.must(cluster.DeleteFiles(deploy+"uninstall.yaml", deploy+"install.yaml"))
	s.must(until(func() error { return s.running("uninstall", 0) }))
	s.must(until(func() error { return s.running("agent", 0) }))

	s.answers(plain, s.serves(here, "without", ""))
	s.answers(s.serves(nodes[1], "other", ""), plain)
	s.must(cluster.DeletePod("leave", "plain"))
	s.must(cluster.WaitReady(nodes...))
	s.do(http.MethodGet, "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions", nil, nil)
}

// running counts the pods of one of multiplexer's DaemonSets.
func (s *scenario) running(component string, want int) error {
	var list corev1.PodList
	s.do(http.MethodGet, "/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/component="+component, nil, &list)
	if len(list.Items) != want {
		return fmt.Errorf("%d pods of %s, want %d", len(list.Items), component, want)
	}
	return nil
}

// refused makes a pod with a network that cannot start, and waits until its
// events say why.
func (s *scenario) refused(n *nodetest.Node, name, why string) {
	s.Helper()
	s.creates(n, server(s.namespace, name, fast))
	s.must(until(func() error {
		for line := range strings.Lines(s.events()) {
			if strings.HasPrefix(line, name+": ") && strings.Contains(line, why) {
				return nil
			}
		}
		return fmt.Errorf("no event of %s says %q: %s", name, why, s.events())
	}))
	pod, err := cluster.GetPod(s.namespace, name)
	s.must(err)
	if pod.Status.Phase != corev1.PodPending {
		s.Errorf("pod %s is %s", name, pod.Status.Phase)
	}
}

// answers asks one pod from another by the cluster network.
func (s *scenario) answers(from, to live) {
	s.Helper()
	for _, address := range to.addresses("eth0") {
		if got, err := where(from.do).asks("tcp", address, port); err != nil || got.local != address {
			s.Errorf("%s asks %s at %s: %+v, %v", from.Name, to.Name, address, got, err)
		}
	}
}

// placed looks for conf and plugin on a node.
func (s *scenario) placed(n *nodetest.Node, want bool) {
	s.Helper()
	for _, file := range []string{"/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer"} {
		if _, err := os.Stat(n.Path(file)); (err == nil) != want || err != nil && !os.IsNotExist(err) {
			s.Errorf("%s: %s: %v", n.Name, file, err)
		}
	}
}
