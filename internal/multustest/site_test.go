// Package multustest takes nodes from the real Multus to multiplexer while
// pods run: Multus's thin plugin attaches them, with definitions and pods of a
// real API server, and multiplexer has to know, keep and detach them.
package multustest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// cluster is every test's: its definitions and pods have names of their own.
var cluster *kubetest.Cluster

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	if cluster, err = kubetest.New(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err = cluster.Apply(kubetest.DefinitionsCRD()); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// site is a node with Multus in the first place: a bridge for the cluster, and
// definitions of three more networks. The test plays containerd, which does
// each call by the first configuration of the day.
type site struct {
	*testing.T
	node      *nettest.Node
	dir       string
	namespace string // of the API server: pods and definitions
	path      []string
	said      []string // what plugins wrote to standard error
}

// networks are the definitions, by name; %[1]q is the directory of the leases.
func networks() map[string]string {
	return map[string]string{
		"storage": `{"cniVersion": "0.3.1", "name": "storage", "type": "macvlan", "master": "nic0", "mode": "bridge",
			"ipam": {"type": "host-local", "dataDir": %[1]q, "ranges": [[{"subnet": "192.168.50.0/24"}]]}}`,
		"lab": `{"cniVersion": "1.0.0", "name": "lab", "plugins": [
			{"type": "bridge", "bridge": "bridge1", "isGateway": true, "capabilities": {"ips": true},
			 "ipam": {"type": "host-local", "dataDir": %[1]q, "ranges": [[{"subnet": "192.168.60.0/24"}]]}},
			{"type": "tuning", "capabilities": {"mac": true}}]}`,
	}
}

const clusterNetwork = `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [
	{"type": "bridge", "bridge": "bridge0", "isDefaultGateway": true, "ipMasq": true,
	 "ipam": {"type": "host-local", "dataDir": %[1]q, "ranges": [[{"subnet": "10.244.7.0/24"}]]}},
	{"type": "portmap", "capabilities": {"portMappings": true}}]}`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, node: nettest.HostNode(t), dir: t.TempDir(), namespace: fmt.Sprintf("multus-%x", time.Now().UnixNano())}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(strings.Join(s.said, ""))
		}
	})
	for _, d := range []string{"net.d", "bin", "networks/" + s.namespace, "leases", "multus/results", "state/journal", "state/release", "state/running"} {
		s.must(os.MkdirAll(s.in(d), 0o700))
	}
	for _, name := range []string{"bridge", "macvlan", "host-local", "tuning", "portmap"} {
		s.must(os.Symlink(filepath.Join(nettest.Plugins(t), name), s.in("bin/"+name)))
	}
	s.must(os.Symlink(multusPath(t), s.in("bin/multus")))
	s.path = []string{s.in("bin")}
	s.write("net.d/10-cluster.conflist", s.config(clusterNetwork))
	s.post("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": s.namespace}})
	s.post("/api/v1/namespaces/"+s.namespace+"/serviceaccounts", map[string]any{"metadata": map[string]any{"name": "default"}})
	for name, conf := range networks() {
		s.post("/apis/k8s.cni.cncf.io/v1/namespaces/"+s.namespace+"/network-attachment-definitions", map[string]any{
			"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
			"metadata": map[string]any{"name": name}, "spec": map[string]any{"config": s.config(conf)},
		})
		// Multiplexer runs without an agent here, by a file for each definition.
		s.write("networks/"+s.namespace+"/"+name+".conflist", s.config(conf))
	}
	for _, command := range []string{"link add nic0 type veth peer name wire0", "link set nic0 up", "link set wire0 up"} {
		_, err := s.node.Output("ip", strings.Fields(command)...)
		s.must(err)
	}
	s.door()
	s.must(cluster.AdminKubeconfig(s.in("kubeconfig")))
	return s
}

// multusPath is the thin plugin, built where it was not yet.
func multusPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("MULTIPLEXER_MULTUS"); path != "" {
		return path
	}
	cmd := exec.Command("../../tools/multus.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

// door lets what runs in the node reach the API server, which listens on the
// machine's loopback.
func (s *site) door() {
	s.Helper()
	address := strings.TrimPrefix(cluster.URL(), "https://")
	var listener net.Listener
	s.must(s.node.Do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}))
	s.Cleanup(func() { _ = listener.Close() }) // the namespace goes with it
	go func() {
		for {
			inside, err := listener.Accept()
			if err != nil {
				return
			}
			outside, err := net.Dial("tcp", address)
			if err != nil {
				_ = inside.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{inside, outside}, {outside, inside}} {
				go func() {
					_, _ = io.Copy(way[0], way[1]) // it ends with either connection
					_ = way[0].Close()
				}()
			}
		}
	}()
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) in(name string) string { return filepath.Join(s.dir, name) }

func (s *site) config(conf string) string { return fmt.Sprintf(conf, s.in("leases")) }

func (s *site) write(name, content string) {
	s.Helper()
	s.must(os.WriteFile(s.in(name), []byte(content), 0o600))
}

func (s *site) post(path string, body any) {
	s.Helper()
	answer, err := cluster.Do(http.MethodPost, path, body)
	s.must(err)
	if answer.Code != http.StatusCreated {
		s.Fatalf("POST %s: HTTP %d: %s", path, answer.Code, answer.Body)
	}
}

// pod is a pod of the API server, and its container.
type pod struct {
	id, networks string
	mapped       []map[string]any
	ns           *nettest.NS
}

// pod makes one that asks for networks.
func (s *site) pod(id, networks string) *pod {
	s.Helper()
	s.post("/api/v1/namespaces/"+s.namespace+"/pods", map[string]any{
		"metadata": map[string]any{"name": id, "annotations": map[string]string{"k8s.v1.cni.cncf.io/networks": networks}},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app"}}},
	})
	return &pod{id: id, networks: networks, ns: nettest.Namespace(s, "pod-")}
}

// call does a verb for a pod as containerd does: by the first configuration
// that is there now, with all of the pod's annotations.
func (s *site) call(verb string, p *pod) (*current.Result, error) {
	s.Helper()
	files, err := libcni.ConfFiles(s.in("net.d"), []string{".conf", ".conflist", ".json"})
	s.must(err)
	slices.Sort(files)
	list, err := readConf(files[0])
	s.must(err)
	runtime := &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.ns.Path(), IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", s.namespace}, {"K8S_POD_NAME", p.id}, {"K8S_POD_INFRA_CONTAINER_ID", p.id}},
		CapabilityArgs: map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{"k8s.v1.cni.cncf.io/networks": p.networks}},
	}
	if p.mapped != nil {
		runtime.CapabilityArgs["portMappings"] = p.mapped
	}
	var said bytes.Buffer
	defer func() { s.said = append(s.said, fmt.Sprintf("%s %s:\n%s", verb, p.id, &said)) }()
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: &said}}
	cni := libcni.NewCNIConfigWithCacheDir(s.path, s.in("cache"), exec)
	var result *current.Result
	return result, s.node.Do(func() error {
		switch verb {
		case "ADD":
			added, addErr := cni.AddNetworkList(s.Context(), list, runtime)
			if addErr != nil {
				return addErr
			}
			result, addErr = current.NewResultFromResult(added)
			return addErr
		case "CHECK":
			return cni.CheckNetworkList(s.Context(), list, runtime)
		case "DEL":
			return cni.DelNetworkList(s.Context(), list, runtime)
		}
		return fmt.Errorf("verb %q", verb)
	})
}

// readConf reads a conf as a list of one, as runtimes do.
func readConf(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var conf map[string]any
	if err = json.Unmarshal(raw, &conf); err != nil {
		return nil, err
	}
	list, err := json.Marshal(map[string]any{"name": conf["name"], "cniVersion": conf["cniVersion"], "plugins": []any{conf}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

func (s *site) ok(verb string, p *pod) {
	s.Helper()
	if _, err := s.call(verb, p); err != nil {
		s.Fatalf("%s %s: %v", verb, p.id, err)
	}
}

// gc lets the installed plugin collect, as CRI-O does, with these containers
// in use.
func (s *site) gc(pods ...*pod) {
	s.Helper()
	raw, err := os.ReadFile(s.in("net.d/00-multiplexer.conflist"))
	s.must(err)
	var list struct {
		Name    string
		Plugins []map[string]any
	}
	s.must(json.Unmarshal(raw, &list))
	conf, valid := list.Plugins[0], []any{}
	for _, p := range pods {
		valid = append(valid, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	conf["name"], conf["cniVersion"], conf["cni.dev/valid-attachments"] = list.Name, "1.1.0", valid
	stdin, err := json.Marshal(conf)
	s.must(err)
	out, err := s.node.CNI(s.Context(), nettest.CNICall{Bin: s.in("bin/multiplexer"), Command: "GC", Path: s.path, Stdin: stdin})
	s.must(err)
	if e := out.Error(); e != nil {
		s.Fatalf("GC: %s\n%s", e, out.Stderr)
	}
}

// daemon runs multiplexerd to its end, and wants it to succeed.
func (s *site) daemon(args ...string) string {
	s.Helper()
	binary, err := nettest.AgentPath()
	s.must(err)
	cmd := exec.Command(binary, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// migrate takes the node to multiplexer by the guide: the options of Multus's
// configuration, then install.
func (s *site) migrate(multus string) {
	s.Helper()
	s.write("options.json", s.daemon("migrate", s.in("net.d/"+multus)))
	s.daemon("install", "--cni-conf-dir", s.in("net.d"), "--cni-bin-dir", s.in("bin"), "--runtime", "containerd",
		"--plugin", nettest.Binary(s), "--options", s.in("options.json"), "--set", "agentSocket=", "--set", "stateDir="+s.in("state"),
		"--set", "confDir="+s.in("networks"), "--set", `clusterCIDRs=["10.244.0.0/16"]`)
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

// address is the pod's IPv4 address on a NIC.
func (s *site) address(p *pod, nic string) string {
	s.Helper()
	var found string
	s.must(p.ns.Do(func() error {
		link, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		all, err := link.Addrs()
		for _, a := range all {
			if ip, _, _ := net.ParseCIDR(a.String()); ip.To4() != nil {
				found = ip.String()
			}
		}
		return err
	}))
	return found
}

// reaches wants the pod to reach an address by a NIC.
func (s *site) reaches(p *pod, nic, address string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	if err := p.ns.PingICMP(ctx, nettest.From{Device: nic}, address); err != nil {
		s.Errorf("pod %s does not reach %s by %s: %v", p.id, address, nic, err)
	}
}

// records are Multus's and libcni's files of a container.
func (s *site) records(p *pod) (names []string) {
	s.Helper()
	s.must(filepath.WalkDir(s.in("multus"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(e.Name(), p.id) {
			names = append(names, e.Name())
		}
		return err
	}))
	return names
}

func (s *site) want(what string, got, want any) {
	s.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("%s: %v, want %v", what, got, want)
	}
}

// snapshot is all that pods could leave behind.
func (s *site) snapshot(pods ...*pod) string {
	s.Helper()
	namespaces := map[string]string{"node": s.node.Path()}
	for _, p := range pods {
		namespaces[p.id] = p.ns.Path()
	}
	return s.files() + nettest.RequireSnapshot(s, nettest.SnapshotOptions{Namespaces: namespaces})
}

// files are the addresses that are given away, and what is recorded.
func (s *site) files() string {
	s.Helper()
	return nettest.RequireSnapshot(s, nettest.SnapshotOptions{Dirs: []nettest.SnapshotDir{
		{Path: s.in("leases"), Label: "LEASES", Files: nettest.FileName},
		{Path: s.in("multus"), Label: "MULTUS", Files: nettest.FileName},
		{Path: s.in("state/journal"), Label: "JOURNAL", Files: nettest.FileName},
		{Path: s.in("state/release"), Label: "RELEASE", Files: nettest.FileName},
	}})
}
