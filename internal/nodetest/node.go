package nodetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Node is a machine of the cluster.
type Node struct {
	Name string
	// IP and IP6 are eth0's addresses.
	IP, IP6 netip.Addr
	// Pods and Pods6 are the addresses of the node's pods.
	Pods, Pods6 netip.Prefix
	// The node's programs. Agent is nil until StartAgent, KubeProxy until
	// StartKubeProxy.
	Containerd, Kubelet, Agent, KubeProxy *Process

	cluster *Cluster
	number  int
	dir     string // its disk
	space   *space
	proxy   *proxy
	prepare []func(*Node) error // before the first start
}

// AddNode makes a node, boots it and returns when the cluster knows it. It is
// not ready yet: that takes a CNI configuration, see [Node.InstallPlugin].
// prepare is done before the node's programs start for the first time.
func (c *Cluster) AddNode(name string, prepare ...func(*Node) error) (*Node, error) {
	c.mu.Lock()
	c.number++
	number := c.number
	c.mu.Unlock()
	if number > 250 {
		return nil, errors.New("no address for one more node")
	}
	api := strings.TrimPrefix(c.URL(), "https://")
	n := &Node{
		Name: name, number: number, cluster: c, dir: c.dir.File(name),
		IP:    netip.AddrFrom4([4]byte{192, 168, 77, byte(number)}),
		IP6:   netip.MustParseAddr(fmt.Sprintf("fd00:77::%x", number)),
		Pods:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(number), 0}), 24),
		Pods6: netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", number)),
		proxy: &proxy{to: api, at: []string{api, net.JoinHostPort(apiAddress, c.apiPort())}},
	}
	n.Containerd, n.Kubelet = n.containerd(), n.kubelet()
	n.prepare = prepare
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	if err := n.setUp(); err != nil {
		return nil, fmt.Errorf("node %s: %w\n%s", name, err, n.tails())
	}
	return n, nil
}

func (n *Node) setUp() error {
	if err := n.makeDisk(); err != nil {
		return err
	}
	if err := n.writeContainerdConfig(); err != nil {
		return err
	}
	if err := n.writeKubeletFiles(); err != nil {
		return err
	}
	if err := n.Boot(); err != nil {
		return err
	}
	return n.register()
}

// Boot starts a node that is off, and the programs that it had: containerd,
// kubelet and the agent. The boot ID is a new one.
func (n *Node) Boot() error {
	if n.space != nil {
		return fmt.Errorf("node %s is on", n.Name)
	}
	var err error
	if err = n.makeDisk(); err != nil {
		return err
	}
	if err = makeCgroups(n.cgroup()); err != nil {
		return err
	}
	if n.space, err = newSpace(n.cluster.inside, nodeSpaces); err != nil {
		return err
	}
	if err = n.boot(); err != nil {
		return errors.Join(fmt.Errorf("boot %s: %w", n.Name, err), n.Crash())
	}
	return nil
}

func (n *Node) boot() error {
	if err := n.space.do(func() error { return errors.Join(isolate(), setHostname(n.Name)) }); err != nil {
		return err
	}
	// A /proc shows the processes of who mounted it.
	if _, err := n.space.output(nil, "mount", "-t", "proc", "proc", "/proc"); err != nil {
		return err
	}
	if err := n.space.do(n.mountAll); err != nil {
		return err
	}
	if err := n.cluster.fabric.plug(n); err != nil {
		return err
	}
	if err := n.route(n.cluster.fabric.space); err != nil {
		return err
	}
	for _, other := range n.cluster.Nodes() {
		if other == n || other.space == nil {
			continue
		}
		if err := errors.Join(other.route(n.space), n.route(other.space)); err != nil {
			return err
		}
	}
	if err := n.proxy.open(n.space); err != nil {
		return err
	}
	if err := n.writeSubnetEnv(); err != nil {
		return err
	}
	for len(n.prepare) > 0 {
		if err := n.prepare[0](n); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		n.prepare = n.prepare[1:]
	}
	return n.startPrograms()
}

func (n *Node) startPrograms() error {
	if err := n.Containerd.Start(); err != nil {
		return err
	}
	if err := n.importImage(); err != nil {
		return err
	}
	if n.Agent != nil {
		if err := n.Agent.Start(); err != nil {
			return err
		}
	}
	if n.KubeProxy != nil {
		if err := n.KubeProxy.Start(); err != nil {
			return err
		}
	}
	return n.Kubelet.Start()
}

// Crash takes the power from the node: all its processes are killed at once,
// and of its files those in /etc, /opt and /var/lib are left. It does nothing
// to a node that is off.
func (n *Node) Crash() error {
	if n.space == nil {
		return nil
	}
	n.proxy.close()
	err := errors.Join(n.cluster.fabric.unplug(n), n.space.close())
	n.space = nil
	for _, p := range n.processes() {
		err = errors.Join(err, p.wait())
	}
	// A reboot takes the cgroups too.
	return errors.Join(err, removeCgroups(n.cgroup()))
}

// CutAPI takes the API server away from the node, until RestoreAPI.
func (n *Node) CutAPI() { n.proxy.close() }

// RestoreAPI ends CutAPI.
func (n *Node) RestoreAPI() error { return n.proxy.open(n.space) }

// Path is where this process finds a file of the node; a node that is off has
// none.
func (n *Node) Path(path string) string {
	if n.space == nil {
		return filepath.Join("/nonexistent", path)
	}
	return filepath.Join("/proc", strconv.Itoa(n.space.pid()), "root", path)
}

// Netns is the path of the node's network namespace.
func (n *Node) Netns() string { return fmt.Sprintf("/proc/%d/ns/net", n.space.pid()) }

// SnapshotOptions look at what pods' networks could leave on the node. Shims,
// which live a moment longer than their pods, are in such a snapshot too.
func (n *Node) SnapshotOptions() nettest.SnapshotOptions {
	options := nettest.SnapshotOptions{Namespaces: map[string]string{"node": n.Netns()}}
	for _, dir := range []string{"/var/lib/cni", "/run/netns", "/run/multiplexer", "/run/k8s.cni.cncf.io"} {
		options.Dirs = append(options.Dirs, nettest.SnapshotDir{Path: n.Path(dir), Label: dir, Files: nettest.FileName})
	}
	return options
}

// Quiet says what of a snapshot, of one node or of several without pods, will
// not be there a moment later: more shims than so many, a journal or a
// namespace of a pod that has gone, or a call of the plugin. kubelet lets the
// runtime undo a pod's networks a second time, seconds after the pod has gone,
// and asks every few seconds for the network's STATUS.
func Quiet(snapshot string, shims int) error {
	switch {
	case strings.Count(snapshot, "process containerd-shim") > shims:
		return fmt.Errorf("a shim still runs:\n%s", snapshot)
	case strings.Contains(snapshot, "/multiplexer/journal/"):
		return fmt.Errorf("a container still has a journal:\n%s", snapshot)
	case strings.Contains(snapshot, "file /run/netns/"):
		return fmt.Errorf("a pod still has a namespace:\n%s", snapshot)
	case strings.Contains(snapshot, "process multiplexer "):
		return fmt.Errorf("the plugin is called:\n%s", snapshot)
	}
	return nil
}

// Still takes snapshots until one is quiet and as the one before it: nothing
// goes on then, and what other programs do for a moment is not in it.
func Still(shims int, snapshot func() (string, error)) (string, error) {
	now := ""
	err := kubetest.Poll(patience, func() (bool, error) {
		before := now
		var err error
		if now, err = snapshot(); err == nil {
			err = Quiet(now, shims)
		}
		if err == nil && now != before {
			err = fmt.Errorf("something changes (-before +after):\n%s", cmp.Diff(before, now))
		}
		return err == nil, err
	})
	return now, err
}

// Do runs f on a thread of the node, which dies afterwards.
func (n *Node) Do(f func() error) error { return n.space.do(f) }

// Output runs a program on the node and returns what it wrote to stdout.
func (n *Node) Output(name string, args ...string) ([]byte, error) {
	return n.space.output(environment(n.cluster.binaries, "/"), name, args...)
}

// Dial connects from the node's network.
func (n *Node) Dial(network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.space.do(func() error {
		var err error
		conn, err = net.Dial(network, address)
		return err
	})
	return conn, err
}

// register waits until kubelet has made the node's object, and gives it the
// pods' addresses, as the controller of cloudless clusters does.
func (n *Node) register() error {
	path := "/api/v1/nodes/" + n.Name
	err := kubetest.Poll(patience, func() (bool, error) {
		if !n.Kubelet.Running() {
			return true, errors.New("kubelet ended")
		}
		answer, err := n.cluster.Do(http.MethodPatch, path, map[string]any{
			"spec": map[string]any{"podCIDR": n.Pods.String(), "podCIDRs": []string{n.Pods.String(), n.Pods6.String()}},
		})
		if err == nil {
			err = answer.Err()
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait until the node is known: %w", err)
	}
	return nil
}

// cgroup is the name of the cgroup that the node's pods are in.
func (n *Node) cgroup() string { return filepath.Base(n.cluster.dir.Path) + "-" + n.Name }

// process is a program of the node.
func (n *Node) process(name, path string, args ...string) *Process {
	return &Process{
		name: n.Name + ": " + name, path: path, args: args, at: func() *space { return n.space },
		env: environment(n.cluster.binaries, "/"), log: n.disk("log", name+".log"),
	}
}

func (n *Node) processes() []*Process {
	all := []*Process{n.Containerd, n.Kubelet}
	for _, p := range []*Process{n.Agent, n.KubeProxy} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (n *Node) tails() string {
	var out strings.Builder
	for _, p := range n.processes() {
		fmt.Fprintf(&out, "== %s\n%s\n", p.name, p.tail(0))
	}
	return out.String()
}

// kubeconfig writes a kubeconfig to the node's disk.
func (n *Node) kubeconfig(name string, cred kubetest.Credential) (string, error) {
	path := n.disk(name)
	return path, n.cluster.Kubeconfig(path, cred)
}

// httpClient asks from the node's network.
func (n *Node) httpClient() *http.Client {
	dial := func(_ context.Context, network, address string) (net.Conn, error) { return n.Dial(network, address) }
	return &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 5 * time.Second}
}

// Remove crashes the node and takes it out of the cluster.
func (n *Node) Remove() error {
	c := n.cluster
	err := n.Crash()
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(c.nodes, func(other *Node) bool { return other == n })
	c.mu.Unlock()
	answer, doErr := c.Do(http.MethodDelete, "/api/v1/nodes/"+n.Name, nil)
	if doErr == nil && answer.Code != http.StatusNotFound {
		doErr = answer.Err()
	}
	return errors.Join(err, doErr, os.RemoveAll(n.dir))
}
