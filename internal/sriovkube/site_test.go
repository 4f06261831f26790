package sriovkube

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

type obj = map[string]any

// site is two nodes, joined by a wire, and their control plane.
type site struct {
	cluster *nodetest.Cluster
	nodes   [2]*node
	look    string // the program of that name
	begin   time.Time
}

// newSite starts everything, and returns when both nodes are ready.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{begin: time.Now()}
	hand, err := nettest.BuildProgram("MULTIPLEXER_GUEST_HAND", "./internal/guest/hand")
	must(t, err)
	s.look, err = nettest.BuildProgram("MULTIPLEXER_SRIOVKUBE_LOOK", "./internal/sriovkube/look")
	must(t, err)
	for i := range s.nodes {
		s.nodes[i] = newNode(s, i)
	}
	// All of it waits now and then, so it starts at once.
	options, wire := guest.Options{Dir: guestDir(t), Command: []string{hand}}, filepath.Join(t.TempDir(), "wire")
	booted := s.eachNode(func(n *node) error { return n.boot(t, options, wire) })
	t.Cleanup(func() { _ = booted() }) // nothing goes on when the test has ended
	s.cluster = nodetest.Start(t)
	must(t, s.cluster.ApplyFiles("../../deploy/network-attachment-definitions.yaml", "../../deploy/rbac.yaml"))
	must(t, s.cluster.WaitAgentRights())
	s.said(t, "the control plane is up")
	must(t, booted())
	if err = s.eachNode(func(n *node) error { return n.up(t) })(); err != nil {
		for _, n := range s.nodes {
			n.showLogs(t, nil)
		}
		t.Fatal(err)
	}
	return s
}

// eachNode does something to both at once. What it returns waits for that.
func (s *site) eachNode(do func(*node) error) func() error {
	var all sync.WaitGroup
	var errs [2]error
	for i, n := range s.nodes {
		all.Go(func() {
			if err := do(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.name, err)
			}
		})
	}
	return func() error {
		all.Wait()
		return errors.Join(errs[:]...)
	}
}

// said puts a moment into the test's log.
func (s *site) said(t *testing.T, what string) {
	t.Helper()
	t.Logf("%5.1f s: %s", time.Since(s.begin).Seconds(), what)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long something may take: an emulated machine takes its time,
// on a busy machine most of all.
const patience = 4 * time.Minute

// eventually tries until it succeeds.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// guestDir is what tools/guest.sh prints.
func guestDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("MULTIPLEXER_GUEST_DIR")
	if dir == "" {
		t.Fatal("these nodes are guests: run `make e2e-sriov`, or set MULTIPLEXER_GUEST_DIR to what tools/guest.sh prints")
	}
	return dir
}

// apply creates or changes an object.
func (s *site) apply(t testing.TB, object obj) {
	t.Helper()
	raw, err := json.Marshal(object)
	must(t, err)
	s.cluster.RequireApply(t, string(raw))
}

// define creates a definition; resource "" is none.
func (s *site) define(t testing.TB, name, resource string, plugin obj) {
	t.Helper()
	config, err := json.Marshal(obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{plugin}})
	must(t, err)
	s.apply(t, obj{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": obj{"name": name, "annotations": obj{"k8s.v1.cni.cncf.io/resourceName": resource}},
		"spec":     obj{"config": string(config)},
	})
}

// showLogsOf shows, when the test has failed, what every process logged while
// it ran.
func (s *site) showLogsOf(t *testing.T) {
	t.Helper()
	s.cluster.Watch(t)
	var before [2]map[string]int
	for i, n := range s.nodes {
		var err error
		before[i], err = n.logs()
		must(t, err)
	}
	t.Cleanup(func() {
		for i, n := range s.nodes {
			if t.Failed() {
				n.showLogs(t, before[i])
			}
		}
	})
}

// logs are the logs of the node's processes, and how long they are.
func (n *node) logs() (map[string]int, error) {
	text, err := n.sh("wc -c " + guest.LogDir + "/*.log")
	logs := map[string]int{}
	for line := range strings.Lines(text) {
		var size int
		var path string
		if _, scanErr := fmt.Sscan(line, &size, &path); scanErr == nil && path != "total" {
			logs[path] = size
		}
	}
	return logs, err
}

// showLogs shows the ends of the logs, from where they were.
func (n *node) showLogs(t *testing.T, before map[string]int) {
	t.Helper()
	logs, err := n.logs()
	if err != nil {
		t.Logf("the logs of %s: %v", n.name, err)
	}
	for path := range logs {
		text, readErr := n.sh(fmt.Sprintf("tail -c +%d %s | tail -c 8000", before[path]+1, path))
		t.Logf("== the log of %s: %s ends with\n%s%v", n.name, filepath.Base(path), text, readErr)
	}
}

// allocatable is what the cluster knows of a node's resource.
func (s *site) allocatable(n *node, resource string) (string, error) {
	found, err := s.cluster.GetNode(n.name)
	if err != nil {
		return "", err
	}
	count, known := found.Status.Allocatable[corev1.ResourceName(resource)]
	if !known {
		return "", nil
	}
	return count.String(), nil
}

// waitAllocatable waits for it to be so.
func (s *site) waitAllocatable(t testing.TB, n *node, resource, want string) {
	t.Helper()
	begin := time.Now()
	eventually(t, fmt.Sprintf("%s of %s", resource, n.name), func() error {
		got, err := s.allocatable(n, resource)
		if err == nil && got != want {
			err = fmt.Errorf("%q is allocatable, want %q", got, want)
		}
		return err
	})
	t.Logf("%s: %s of %s after %.1f s", n.name, want, resource, time.Since(begin).Seconds())
}
