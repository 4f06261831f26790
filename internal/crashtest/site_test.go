package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// The recorder's ADD and DEL take their time before their effect, so that a
// delegate whose plugin was killed has its effect after that. A DEL that did
// not wait for it would be over by then.
const (
	slowAdd = `[{"sleep":"300ms"},{"allocate":true},{"link":true}]`
	slowDel = `[{"sleep":"150ms"},{"unlink":true},{"free":true}]`
)

// site is a node with multiplexer and three networks: a bridge for the
// cluster, another one for the pods that ask for it, and the recorder. The
// pods ask for both.
type site struct {
	node   *nettest.Node
	dir    string
	binary string
	path   []string // CNI_PATH
	conf   []byte
	made   atomic.Int64 // pods
	add    []point      // of an ADD
}

// newSite makes a node where pods ask for these networks. The slow steps are
// the recorder's.
func newSite(t *testing.T, networks string) *site {
	t.Helper()
	s := &site{node: nettest.HostNode(t), dir: t.TempDir(), binary: nettest.Binary(t)}
	for _, dir := range []string{"state", "leases", "recorder/leases", "bin", "net.d", "cluster"} {
		if err := os.MkdirAll(s.in(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := nettest.InstallRecorder(s.in("bin"), "recorder"); err != nil {
		t.Fatal(err)
	}
	s.path = []string{s.in("bin"), nettest.Plugins(t)}
	s.write(t, "cluster/10-cluster.conflist", `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{
		"type": "bridge", "bridge": "cluster0", "isDefaultGateway": true,
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.7.0/24"}]]}}]}`, s.in("leases"))
	s.write(t, "net.d/storage.conflist", `{"cniVersion": "1.0.0", "name": "storage", "plugins": [{
		"type": "bridge", "bridge": "storage0",
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "192.168.50.0/24"}]]}}]}`, s.in("leases"))
	s.recorder(t, slowAdd, slowDel)
	s.conf = fmt.Appendf(nil, `{"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": "",
		"clusterNetwork": %q, "confDir": %q, "stateDir": %q, "agentSocket": "",
		"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"k8s.v1.cni.cncf.io/networks": %q}}}`,
		s.in("cluster"), s.in("net.d"), s.in("state"), networks)
	t.Cleanup(func() { s.endRecorders(t) })
	// The first pod leaves the node's bridges behind, which are to stay.
	first := s.pod(t)
	s.must(t, first.call("ADD"))
	s.must(t, first.call("DEL"))
	s.add = s.points(t, "ADD", fresh)
	return s
}

// recorder gives the recorder its steps, from the next ADD on.
func (s *site) recorder(t *testing.T, add, del string) {
	t.Helper()
	s.write(t, "net.d/slow.conflist", `{"cniVersion": "1.0.0", "name": "slow", "plugins": [{
		"type": "recorder", "dir": %q, "subnet": "10.77.0.0/24", "steps": {"ADD": %s, "DEL": %s}}]}`, s.in("recorder"), add, del)
}

func (s *site) in(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t *testing.T, name, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(s.in(name), fmt.Appendf(nil, format, args...), 0o644); err != nil {
		t.Fatal(err)
	}
}

// recorders returns the recorders of this site that run, by argv[0].
func (s *site) recorders(t *testing.T) map[string][]int {
	t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	running := map[string][]int{}
	for _, exe := range exes {
		if target, readErr := os.Readlink(exe); readErr != nil || target != s.in("bin/recorder") {
			continue
		}
		cmdline, readErr := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		if readErr != nil {
			continue // it ended
		}
		var pid int
		if pid, err = strconv.Atoi(filepath.Base(filepath.Dir(exe))); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(string(cmdline), "\x00")
		running[name] = append(running[name], pid)
	}
	return running
}

// endRecorders ends the recorders that run, and waits until they are gone.
func (s *site) endRecorders(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		running := s.recorders(t)
		if len(running) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("recorders cannot be ended: %v", running)
			return
		}
		for _, pids := range running {
			for _, pid := range pids {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
					t.Error(err)
				}
			}
		}
	}
}

// pod is a container with its namespace.
type pod struct {
	*site
	id    string
	netns *nettest.NS
}

func (s *site) pod(t *testing.T) *pod {
	t.Helper()
	return &pod{site: s, id: fmt.Sprintf("container%d", s.made.Add(1)), netns: nettest.Namespace(t, "pod-")}
}

// call is a call of the runtime for this pod.
func (p *pod) call(verb string) nettest.CNICall {
	return nettest.CNICall{
		Bin: p.binary, Command: verb, ContainerID: p.id, Netns: p.netns.Path(), IfName: "eth0", Path: p.path, Stdin: p.conf,
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.id,
	}
}

// delNoNetns is a DEL for a pod whose namespace is gone.
func (p *pod) delNoNetns() nettest.CNICall {
	call := p.call("DEL")
	call.Netns, call.Env = "", []string{"CNI_NETNS="}
	return call
}

// gc is a GC of a runtime that has no containers.
func (s *site) gc(t *testing.T) nettest.CNICall {
	t.Helper()
	var conf map[string]any
	if err := json.Unmarshal(s.conf, &conf); err != nil {
		t.Fatal(err)
	}
	conf["cni.dev/valid-attachments"] = []any{}
	delete(conf, "runtimeConfig")
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return nettest.CNICall{Bin: s.binary, Command: "GC", Path: s.path, Stdin: stdin}
}

// must makes a call that has to succeed, and returns how long it took.
func (s *site) must(t *testing.T, call nettest.CNICall) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	outcome, err := s.node.CNI(ctx, call)
	if err != nil {
		t.Fatalf("%s: %v", call.Command, err)
	}
	if e := outcome.Error(); e != nil {
		t.Fatalf("%s: %s\nits log: %s", call.Command, e, outcome.Stderr)
	}
	return time.Since(start)
}

// snapshot is all that a pod could leave behind. host-local keeps the last
// address that it gave away; only its leases' names count.
func (p *pod) snapshot(t *testing.T) string {
	t.Helper()
	return nettest.RequireSnapshot(t, nettest.SnapshotOptions{
		Namespaces: map[string]string{"node": p.node.Path(), "pod": p.netns.Path()},
		Dirs: []nettest.SnapshotDir{
			{Path: p.in("state"), Label: "STATE", Files: nettest.FileHash},
			{Path: p.in("leases"), Label: "LEASES", Files: nettest.FileName},
			{Path: p.in("recorder/leases"), Label: "RECORDED", Files: nettest.FileContent},
			{Path: p.in("bin"), Label: "BIN", Files: nettest.FileName},
		},
	})
}

// journal reads what the pod's journal says, and nil where there is none. Nobody
// may keep its lock: whoever held it is dead. A delegate that was being started
// holds what its plugin had open until it begins with its own program.
func (p *pod) journal(t *testing.T) *journal.Contents {
	t.Helper()
	if _, err := os.Stat(p.journalPath()); err != nil {
		return nil
	}
	store := journal.Store{Dir: p.in("state"), Now: time.Now}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	entry, err := store.Open(ctx, p.id)
	if err != nil {
		t.Fatalf("read the journal: %v", err)
	}
	if err = entry.Close(); err != nil {
		t.Fatal(err)
	}
	return &entry.Contents
}

func (p *pod) journalPath() string { return p.in("state/journal/" + p.id) }
