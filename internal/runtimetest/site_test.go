package runtimetest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/cri-o/ocicni/pkg/ocicni"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// object is a piece of JSON.
type object = map[string]any

// site is a node with multiplexer in its CNI slot, and its files.
type site struct {
	*testing.T
	node *nettest.Node
	dir  string
	*driver
}

// newSite makes a node, without a runtime. Its CNI slot holds the example's
// file with paths of this test; its cluster network is a bridge with IPv4.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, node: nettest.HostNode(t), dir: t.TempDir()}
	for _, dir := range []string{"bin", "net.d", "mpx.d", "state", "leases", "rec/leases", "varlib/cni"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.install(nettest.Binary(t))
	plugins := nettest.Plugins(t)
	for _, name := range []string{"bridge", "host-local", "loopback", "tuning", "portmap", "static", "ptp", "sbr"} {
		s.install(filepath.Join(plugins, name))
	}
	if err := nettest.InstallRecorder(s.path("bin"), "recorder"); err != nil {
		t.Fatal(err)
	}
	s.cluster("1.0.0",
		s.bridge("cluster0", "10.244.7.0/24"),
		object{"type": "portmap", "backend": "nftables", "capabilities": object{"portMappings": true}})
	s.network("1.0.0", "storage", s.secondary("storage0", "192.168.50.0/24"), object{"type": "tuning", "mtu": 1400})
	s.network("1.0.0", "telemetry", s.secondary("telemetry0", "192.168.60.0/24"))
	s.multiplexer(nil)
	return s
}

// path returns a path below the site's own directory.
func (s *site) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

// install puts a plugin into the bin directory. A link would do for all but
// those that look themselves up.
func (s *site) install(plugin string) {
	s.Helper()
	if err := os.Symlink(plugin, s.path("bin", filepath.Base(plugin))); err != nil {
		s.Fatal(err)
	}
}

// write writes a conflist.
func (s *site) write(path, version, name string, plugins ...object) {
	s.Helper()
	s.writeJSON(path, object{"cniVersion": version, "name": name, "plugins": plugins})
}

func (s *site) writeJSON(path string, value any) {
	s.Helper()
	raw, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		s.Fatal(err)
	}
	if err = os.WriteFile(path, raw, 0o644); err != nil {
		s.Fatal(err)
	}
}

func (s *site) cluster(version string, plugins ...object) {
	s.Helper()
	s.write(s.path("net.d", "10-cluster.conflist"), version, "cluster", plugins...)
}

// network defines a network that a pod may name.
func (s *site) network(version, name string, plugins ...object) {
	s.Helper()
	s.write(s.path("mpx.d", name+".conflist"), version, name, plugins...)
}

// multiplexer writes the example's conflist with this site's paths, changed
// as the caller wants: `plugin` and `list` may be nil.
func (s *site) multiplexer(change func(list, plugin object)) {
	s.Helper()
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "cni", "net.d", "00-multiplexer.conflist"))
	if err != nil {
		s.Fatal(err)
	}
	var list object
	if err = json.Unmarshal(example, &list); err != nil {
		s.Fatal(err)
	}
	plugin := list["plugins"].([]any)[0].(object)
	plugin["clusterNetwork"] = s.path("net.d", "10-cluster.conflist")
	plugin["stateDir"] = s.path("state")
	plugin["confDir"] = s.path("mpx.d")
	if change != nil {
		change(list, plugin)
	}
	s.writeJSON(s.path("net.d", "00-multiplexer.conflist"), list)
}

// start starts the runtime with the configuration as it is now.
func (s *site) start(runtime string) {
	s.Helper()
	s.driver = startDriver(s.T, s.node, DriverConfig{
		Runtime: runtime, ConfDir: s.path("net.d"), BinDir: s.path("bin"), VarLib: s.path("varlib"),
	})
}

// bridge is a bridge network with a range for each subnet, and a default route
// for each family.
func (s *site) bridge(name string, subnets ...string) object {
	b := s.secondary(name, subnets...)
	delete(b, "isGateway")
	b["isDefaultGateway"] = true
	return b
}

// secondary is the same without a default route.
func (s *site) secondary(name string, subnets ...string) object {
	var ranges []any
	for _, subnet := range subnets {
		ranges = append(ranges, []object{{"subnet": subnet}})
	}
	return object{
		"type": "bridge", "bridge": name, "isGateway": true,
		"ipam": object{"type": "host-local", "dataDir": s.path("leases"), "ranges": ranges},
	}
}

// recorder is a network of the recorder's; steps are by verb.
func (s *site) recorder(subnet string, steps object) object {
	r := object{"type": "recorder", "dir": s.path("rec"), "subnet": subnet}
	if steps != nil {
		r["steps"] = steps
	}
	return r
}

// calls returns what recorders of the network were called with.
func (s *site) calls(verb, network string) []nettest.Call {
	s.Helper()
	all, err := nettest.Calls(s.path("rec"))
	if err != nil {
		s.Fatal(err)
	}
	return slices.DeleteFunc(all, func(c nettest.Call) bool {
		return c.Verb != verb || c.Name != network
	})
}

// linked are steps of a recorder that attaches for real.
func linked() object {
	return object{"ADD": []object{{"allocate": true}, {"link": true}}, "CHECK": []object{{"checkLink": true}}}
}

// newPod makes a pod that asks for networks, and its namespace.
func (s *site) newPod(name string, networks ...string) (Pod, *nettest.NS) {
	s.Helper()
	ns := nettest.Namespace(s.T, "pod-")
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	pod := Pod{
		ID: hex.EncodeToString(id), Netns: ns.Path(), Namespace: "shop", Name: name,
		UID:         fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
		Annotations: map[string]string{"example.com/note": "a;b=c \"d\""},
	}
	if len(networks) > 0 {
		pod.Annotations["k8s.v1.cni.cncf.io/networks"] = strings.Join(networks, ",")
	}
	return pod, ns
}

// hostPort is a port mapping as a pod's hostPort makes it.
func hostPort() []ocicni.PortMapping {
	return []ocicni.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
}

// snapshot shows all that a pod could leave behind on the node.
func (s *site) snapshot() string {
	s.Helper()
	return nettest.RequireSnapshot(s.T, nettest.SnapshotOptions{
		Namespaces: map[string]string{"node": s.node.Path()},
		Dirs: []nettest.SnapshotDir{
			{Path: s.path("state"), Label: "state", Files: nettest.FileMeta},
			{Path: s.path("varlib"), Label: "varlib", Files: nettest.FileName},
			// host-local keeps a lock and its last address, whatever is released.
			{Path: s.path("leases"), Label: "leases", Files: nettest.FileName},
			{Path: s.path("rec", "leases"), Label: "recorder's leases", Files: nettest.FileName},
		},
	})
}

// settled adds and removes one pod, so that bridges, portmap's tables and lock
// files are there, and returns the snapshot to compare others with.
func (s *site) settled(networks ...string) string {
	s.Helper()
	pod, ns := s.newPod("first", networks...)
	pod.Ports = hostPort()
	s.setup(pod)
	s.bridged()
	s.remove(pod)
	if err := ns.Close(); err != nil {
		s.Fatal(err)
	}
	return s.snapshot()
}

// patience is how long something may take on a busy machine.
const patience = time.Minute

// bridged waits until each bridge of the node has its IPv6 link-local address.
// It gets it a moment after its first port, and keeps it.
func (s *site) bridged() {
	s.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		missing, err := s.unaddressed()
		if err == nil && len(missing) == 0 {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("bridges without a link-local address: %v, %v", missing, err)
		}
	}
}

// unaddressed are the bridges that do not have it.
func (s *site) unaddressed() (bridges []string, err error) {
	handle, err := s.node.Handle()
	if err != nil {
		return nil, err
	}
	links, err := handle.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if link.Type() != "bridge" {
			continue
		}
		addresses, listErr := handle.AddrList(link, 0)
		if listErr != nil {
			return nil, listErr
		}
		found := false
		for _, a := range addresses {
			found = found || a.IP.IsLinkLocalUnicast()
		}
		if !found {
			bridges = append(bridges, link.Attrs().Name)
		}
	}
	return bridges, nil
}

// same fails when the node is not as it was, once what has been told to end has
// ended.
func (s *site) same(before string) {
	s.Helper()
	after := s.snapshot()
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); after = s.snapshot() {
		time.Sleep(20 * time.Millisecond)
	}
	nettest.RequireSame(s.T, before, after)
}

// journals returns the files in stateDir.
func (s *site) journals() []string {
	s.Helper()
	var out []string
	err := filepath.WalkDir(s.path("state"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// leases returns the leases that a container has, as NETWORK/ADDRESS.
func (s *site) leases(pod Pod) []string {
	s.Helper()
	var out []string
	for pattern, dir := range map[string]string{"leases/*/*": "leases", "rec/leases/*/*": "rec/leases"} {
		files, err := filepath.Glob(s.path(pattern))
		if err != nil {
			s.Fatal(err)
		}
		for _, file := range files {
			content, readErr := os.ReadFile(file)
			if readErr != nil {
				s.Fatal(readErr)
			}
			if strings.Contains(string(content), pod.ID) || strings.Contains(filepath.Base(file), pod.ID) {
				relative, _ := filepath.Rel(s.path(dir), file)
				out = append(out, strings.Replace(relative, pod.ID, "ID", 1))
			}
		}
	}
	slices.Sort(out)
	return out
}

// interfaces returns the names of the interfaces in a namespace but lo.
func (s *site) interfaces(ns *nettest.NS) []string {
	s.Helper()
	handle, err := ns.Handle()
	if err != nil {
		s.Fatal(err)
	}
	links, err := handle.LinkList()
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, link := range links {
		if name := link.Attrs().Name; name != "lo" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// result decodes what the runtime kept of the result.
func (s *site) result(reply Reply) *types100.Result {
	s.Helper()
	var result types100.Result
	if err := json.Unmarshal(reply.Raw, &result); err != nil {
		s.Fatalf("result %s: %v", reply.Raw, err)
	}
	return &result
}

// want fails when two lists differ.
func want[T comparable](t *testing.T, what string, got, wanted []T) {
	t.Helper()
	if !slices.Equal(got, wanted) {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}
