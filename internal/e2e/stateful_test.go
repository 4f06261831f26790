package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// The pod of a StatefulSet that is deleted comes again with the same name, and
// with addresses and rules of its own; of the one before, nothing is left.
func statefulSet(t *testing.T) {
	s := begin(t, "stateful")
	count := int32(2)
	s.do(http.MethodPost, "/apis/apps/v1/namespaces/stateful/statefulsets", appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &count, PodManagementPolicy: appsv1.ParallelPodManagement, ServiceName: "db",
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, Template: template("db", fast),
		},
	}, nil)
	s.selected("db", int(count))
	peer, old := s.ready("db-1"), s.ready("db-0")
	s.must(old.do(func() error { return ruled(old) }))
	sandbox := s.sandbox(old)
	s.must(cluster.BeginDelete("stateful", "db-0"))
	var again live
	s.must(until(func() error {
		if again = s.ready("db-0"); again.UID == old.UID {
			return errors.New("it is the old one")
		}
		return nil
	}))
	s.must(again.do(func() error { return errors.Join(matches(again), ruled(again)) }))
	for i, address := range again.addresses("net1") {
		s.reaches(peer.do, address, answer{"db-0", address, peer.addresses("net1")[i]})
		s.reaches(again.do, peer.addresses("net1")[i], answer{"db-1", peer.addresses("net1")[i], address})
	}
	s.carries(peer, "net1", "udp", again.addresses("net1")[0], port)
	s.forgotten(old.node, sandbox)
	for _, nic := range []string{"eth0", "net1"} {
		for _, address := range old.addresses(nic) {
			if slices.Contains(again.addresses(nic), address) {
				s.Errorf("%s has the address %s again, which host-local gives away last", again.Name, address)
			}
		}
	}
}

// ruled expects rules for the pod's addresses, and for no others.
func ruled(l live) error {
	var want, got []string
	for _, status := range l.statuses {
		want = append(want, status.IPs...)
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if rule.Src != nil {
			got = append(got, rule.Src.IP.String())
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		return fmt.Errorf("%s has rules for %v, want %v", l.Name, got, want)
	}
	return nil
}

// sandbox is the ID that the pod's networks were attached under: what
// host-local has written beside the address.
func (s *scenario) sandbox(l live) string {
	s.Helper()
	content, err := os.ReadFile(l.node.Path(filepath.Join("/var/lib/cni/networks/fast", l.addresses("net1")[0])))
	s.must(err)
	id, _, _ := strings.Cut(string(content), "\r\n")
	if knows, walkErr := mentions(l.node, id); walkErr != nil || len(knows) < 4 {
		s.Fatalf("%s is known by %v, %v; want the leases of eth0 and net1, flannel's file and the journal", id, knows, walkErr)
	}
	return id
}

// forgotten waits until no file of the node's networks speaks of the sandbox.
func (s *scenario) forgotten(n *nodetest.Node, sandbox string) {
	s.Helper()
	if err := until(func() error {
		knows, err := mentions(n, sandbox)
		if err == nil && len(knows) > 0 {
			err = fmt.Errorf("%s speak of %s", knows, sandbox)
		}
		return err
	}); err != nil {
		s.Error(err)
	}
}

// mentions are the files below /var/lib/cni with the text in their name or
// content.
func mentions(n *nodetest.Node, text string) ([]string, error) {
	var found []string
	root := n.Path("/var/lib/cni")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		content, err := os.ReadFile(path)
		if strings.Contains(path, text) || strings.Contains(string(content), text) {
			found = append(found, strings.TrimPrefix(path, root))
		}
		return ignoreGone(err)
	})
	return found, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
