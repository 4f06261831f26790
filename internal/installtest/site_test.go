// Package installtest puts multiplexer onto a node and takes it off again, by
// the executables, while pods come and go through real CNI plugins.
package installtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const (
	conf   = "net.d/00-multiplexer.conflist"
	plugin = "bin/multiplexer"
	marker = "state/uninstalling"
)

// site is a node: a runtime's two directories, a bridge for the cluster and
// another one for the pods that ask for it. The test plays containerd, which
// does each call by the first configuration of the day.
type site struct {
	*testing.T
	node *nettest.Node
	dir  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, node: nettest.HostNode(t), dir: t.TempDir()}
	for _, d := range []string{"net.d", "bin", "networks", "leases"} {
		s.must(os.MkdirAll(s.in(d), 0o755))
	}
	for _, name := range []string{"bridge", "host-local"} {
		s.must(os.Symlink(filepath.Join(nettest.Plugins(t), name), s.in("bin/"+name)))
	}
	bridge := `{"cniVersion": "1.0.0", "name": %[1]q, "plugins": [{"type": "bridge", "bridge": "%[1]s0", %[2]s
		"ipam": {"type": "host-local", "dataDir": %[3]q, "ranges": [[{"subnet": %[4]q}]]}}]}`
	s.write("net.d/10-cluster.conflist", fmt.Sprintf(bridge, "cluster", `"isDefaultGateway": true,`, s.in("leases"), "10.244.7.0/24"))
	s.write("networks/storage.conflist", fmt.Sprintf(bridge, "storage", `"isGateway": true,`, s.in("leases"), "192.168.50.0/24"))
	// The first pods leave the bridges behind, which are to stay.
	for _, file := range []string{"net.d/10-cluster.conflist", "networks/storage.conflist"} {
		p := s.pod("first", "")
		list := s.list(s.in(file))
		s.must(s.callBy("ADD", p, list))
		s.must(s.callBy("DEL", p, list))
	}
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) in(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, content string) {
	s.Helper()
	s.must(os.WriteFile(s.in(name), []byte(content), 0o644))
}

func (s *site) there(name string) bool {
	_, err := os.Lstat(s.in(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
	return err == nil
}

// files are the names in a directory.
func (s *site) files(dir string) []string {
	s.Helper()
	entries, err := os.ReadDir(s.in(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// command is multiplexerd, told where this node is.
func (s *site) command(verb string, more ...string) *exec.Cmd {
	s.Helper()
	binary, err := nettest.AgentPath()
	s.must(err)
	args := []string{verb, "--cni-conf-dir", s.in("net.d"), "--cni-bin-dir", s.in("bin"), "--runtime", "containerd"}
	if verb == "install" {
		args = append(args, "--plugin", nettest.Binary(s), "--set", "agentSocket=", "--set", "stateDir="+s.in("state"), "--set", "confDir="+s.in("networks"),
			"--set", `clusterCIDRs=["10.244.0.0/16"]`)
	}
	if verb == "uninstall" {
		args = append(args, "--settle", "300ms") // nobody reads the directory late here
	}
	return exec.Command(binary, append(args, more...)...)
}

// run runs multiplexerd to its end, and wants it to succeed.
func (s *site) run(verb string, more ...string) string {
	s.Helper()
	cmd := s.command(verb, more...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// background is a process whose output is read while it runs.
type background struct {
	*site
	cmd *exec.Cmd

	mu   sync.Mutex
	text bytes.Buffer
	done chan error
}

func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *background) output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs a process while the test goes on.
func (s *site) start(cmd *exec.Cmd) *background {
	s.Helper()
	b := &background{site: s, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = b, b
	s.must(cmd.Start())
	go func() { b.done <- cmd.Wait() }()
	s.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, if all is well
	return b
}

// says waits until the process has written something.
func (b *background) says(what string) {
	b.Helper()
	b.until("it says "+what, func() bool { return strings.Contains(b.output(), what) })
}

// ends waits for the end, and wants it to succeed.
func (b *background) ends() string {
	b.Helper()
	if err := b.end(); err != nil {
		b.Fatalf("%s: %v\n%s", b.cmd, err, b.output())
	}
	return b.output()
}

// fails waits for the end, and wants it to fail.
func (b *background) fails() string {
	b.Helper()
	if err := b.end(); err == nil {
		b.Fatalf("%s succeeded:\n%s", b.cmd, b.output())
	}
	return b.output()
}

func (b *background) end() error {
	b.Helper()
	select {
	case err := <-b.done:
		return err
	case <-time.After(60 * time.Second):
		b.Fatalf("%s does not end:\n%s", b.cmd, b.output())
	}
	return nil
}

// endChild tells the process that a command of onNode runs to end.
func (b *background) endChild() {
	b.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.cmd.Process.Pid))
	b.must(err)
	child, err := strconv.Atoi(string(bytes.TrimSpace(children)))
	b.must(err)
	b.must(syscall.Kill(child, syscall.SIGTERM))
}

func (s *site) until(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("waited in vain until %s", what)
		}
	}
}

// pod is a container of the runtime.
type pod struct {
	id, networks string
	ns           *nettest.NS
}

func (s *site) pod(id, networks string) *pod {
	s.Helper()
	return &pod{id: id, networks: networks, ns: nettest.Namespace(s, "pod-")}
}

// call does a verb for a pod as containerd does: by the first configuration
// that is there now, with all of the pod's annotations.
func (s *site) call(verb string, p *pod) error {
	s.Helper()
	return s.callBy(verb, p, s.first())
}

func (s *site) callBy(verb string, p *pod, list *libcni.NetworkConfigList) error {
	s.Helper()
	runtime := &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.ns.Path(), IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", p.id}},
		CapabilityArgs: map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{"k8s.v1.cni.cncf.io/networks": p.networks}},
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{s.in("bin")}, s.in("cache"), nil)
	return s.node.Do(func() error {
		switch verb {
		case "ADD":
			_, err := cni.AddNetworkList(s.Context(), list, runtime)
			return err
		case "CHECK":
			return cni.CheckNetworkList(s.Context(), list, runtime)
		case "DEL":
			return cni.DelNetworkList(s.Context(), list, runtime)
		case "STATUS":
			return cni.GetStatusNetworkList(s.Context(), list)
		}
		return fmt.Errorf("verb %q", verb)
	})
}

// first is the configuration that the runtime takes.
func (s *site) first() *libcni.NetworkConfigList {
	s.Helper()
	files, err := libcni.ConfFiles(s.in("net.d"), []string{".conf", ".conflist", ".json"})
	s.must(err)
	slices.Sort(files)
	return s.list(files[0])
}

func (s *site) list(file string) *libcni.NetworkConfigList {
	s.Helper()
	list, err := libcni.NetworkConfFromFile(file)
	s.must(err)
	return list
}

func (s *site) ok(verb string, p *pod) {
	s.Helper()
	if err := s.call(verb, p); err != nil {
		s.Fatalf("%s %s: %v", verb, p.id, err)
	}
}

// later wants an ADD to be refused with "try again later".
func (s *site) later(p *pod, words ...string) {
	s.Helper()
	err := s.call("ADD", p)
	var e *types.Error
	if !errors.As(err, &e) || e.Code != types.ErrTryAgainLater {
		s.Fatalf("ADD %s: %v, want code 11", p.id, err)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg, w) {
			s.Errorf("%q lacks %q", e.Msg, w)
		}
	}
}

// interfaces are the pod's NICs.
func (s *site) interfaces(p *pod) []string {
	s.Helper()
	var names []string
	s.must(p.ns.Do(func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			if i.Flags&net.FlagLoopback == 0 {
				names = append(names, i.Name)
			}
		}
		return err
	}))
	slices.Sort(names)
	return names
}

// reaches wants the pod to reach an address.
func (s *site) reaches(p *pod, address string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	if err := p.ns.PingICMP(ctx, nettest.From{}, address); err != nil {
		s.Errorf("pod %s does not reach %s: %v", p.id, address, err)
	}
}

// leases are the addresses that a network has given away.
func (s *site) leases(network string) int {
	n := 0
	for _, name := range s.files("leases/" + network) {
		if net.ParseIP(name) != nil {
			n++
		}
	}
	return n
}

func (s *site) want(what string, got, want any) {
	s.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("%s: %v, want %v", what, got, want)
	}
}

// snapshot is all that pods and installation could leave behind.
func (s *site) snapshot(pods ...*pod) string {
	s.Helper()
	namespaces := map[string]string{"node": s.node.Path()}
	for _, p := range pods {
		namespaces[p.id] = p.ns.Path()
	}
	return nettest.RequireSnapshot(s, nettest.SnapshotOptions{
		Namespaces: namespaces,
		Dirs: []nettest.SnapshotDir{
			{Path: s.in("leases/cluster"), Label: "CLUSTER", Files: nettest.FileName},
			{Path: s.in("leases/storage"), Label: "STORAGE", Files: nettest.FileName},
			{Path: s.in("net.d"), Label: "NET.D", Files: nettest.FileHash},
			{Path: s.in("bin"), Label: "BIN", Files: nettest.FileName},
		},
	})
}
