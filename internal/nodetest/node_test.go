package nodetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// trial is a test on the cluster, and its pods.
type trial struct {
	*testing.T
	pods []*corev1.Pod
}

// begin begins a test: when it fails, it shows what the programs logged. At
// its end its pods are deleted, and nobody waits for that.
func begin(t *testing.T) *trial {
	x := &trial{T: t}
	cluster.Watch(t)
	t.Cleanup(func() {
		for _, pod := range x.pods {
			if err := cluster.BeginDelete(pod.Namespace, pod.Name); err != nil {
				t.Error(err)
			}
		}
	})
	return x
}

// waitGone waits until the pods have been deleted.
func (x *trial) waitGone() {
	for _, pod := range x.pods {
		if err := cluster.WaitGone(pod.Namespace, pod.Name); err != nil {
			x.Error(err)
		}
	}
}

func (x *trial) creates(pod *corev1.Pod) {
	x.Helper()
	must(x, cluster.CreatePod(pod))
	x.pods = append(x.pods, pod)
}

// runs creates a pod and waits until it runs.
func (x *trial) runs(pod *corev1.Pod) *corev1.Pod {
	x.Helper()
	x.creates(pod)
	return x.running(pod)
}

// running waits until a pod runs and shows its networks. An API server that is
// slow gets them a moment later.
func (x *trial) running(pod *corev1.Pod) *corev1.Pod {
	x.Helper()
	running, err := cluster.WaitRunning(pod)
	must(x, err)
	if pod.Annotations[nadv1.NetworkAttachmentAnnot] == "" {
		return running
	}
	running, err = cluster.WaitPod(pod.Namespace, pod.Name, "shows its networks", func(p *corev1.Pod) (bool, string) {
		return p.Annotations[nadv1.NetworkStatusAnnot] != "", "no network-status"
	})
	must(x, err)
	return running
}

// attached is a pod with networks.
func attached(name, networks string) *corev1.Pod {
	pod := NewPod("shop", name)
	pod.Annotations[nadv1.NetworkAttachmentAnnot] = networks
	return pod
}

// statuses is what a pod's network-status says.
func statuses(t *testing.T, pod *corev1.Pod) []nadv1.NetworkStatus {
	t.Helper()
	var list []nadv1.NetworkStatus
	must(t, json.Unmarshal([]byte(pod.Annotations[nadv1.NetworkStatusAnnot]), &list))
	return list
}

// define creates a network of the namespace shop.
func define(t *testing.T, name, resource string, config map[string]any) {
	t.Helper()
	raw, err := json.Marshal(config)
	must(t, err)
	annotations := map[string]string{}
	if resource != "" {
		annotations["k8s.v1.cni.cncf.io/resourceName"] = resource
	}
	object, err := json.Marshal(map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"namespace": "shop", "name": name, "annotations": annotations},
		"spec":     map[string]any{"config": string(raw)},
	})
	must(t, err)
	must(t, cluster.Apply(string(object)))
}

func hostLocal(subnet string) map[string]any {
	return map[string]any{"type": "host-local", "ranges": [][]any{{map[string]string{"subnet": subnet}}}}
}

// defineNetworks creates a macvlan on the node's eth0 and a bridge.
func defineNetworks(t *testing.T) {
	t.Helper()
	define(t, "lan", "", map[string]any{
		"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": hostLocal("10.71.0.0/24"),
	})
	define(t, "storage", "", map[string]any{
		"cniVersion": "1.0.0", "name": "storage", "type": "bridge", "bridge": "storage0", "ipam": hostLocal("10.72.0.0/24"),
	})
}

func environ(t *testing.T, pod *corev1.Pod, container string) map[string]string {
	t.Helper()
	variables, _, err := node.Environment(pod, container)
	must(t, err)
	return variables
}

func TestNode(t *testing.T) {
	object, err := cluster.GetNode(node.Name)
	must(t, err)
	info := object.Status.NodeInfo
	if info.KubeletVersion != "v1.37.2" || info.ContainerRuntimeVersion != "containerd://2.4.2" {
		t.Errorf("kubelet %s, runtime %s", info.KubeletVersion, info.ContainerRuntimeVersion)
	}
	machine, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	if own := strings.TrimSpace(string(machine)); info.BootID == own || info.BootID == "" {
		t.Errorf("the node's boot ID is %s, the machine's %s", info.BootID, own)
	}
	for _, path := range []string{"/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer", "/var/lib/kubelet/pod-resources/kubelet.sock", "/run/multiplexer/agent.sock"} {
		if _, err = os.Stat(node.Path(path)); err != nil {
			t.Error(err)
		}
		if _, err = os.Stat(path); err == nil {
			t.Errorf("%s is on the machine itself", path)
		}
	}
	name, err := node.Output("hostname")
	if err != nil || strings.TrimSpace(string(name)) != node.Name {
		t.Errorf("hostname %q, %v", name, err)
	}
}

func TestPlainPod(t *testing.T) {
	x := begin(t)
	pod := x.runs(NewPod("shop", "plain"))
	if address := netip.MustParseAddr(pod.Status.PodIP); !node.Pods.Contains(address) {
		t.Errorf("the pod has %s, the node %s", address, node.Pods)
	}
	if name := environ(t, pod, "app")["HOSTNAME"]; name != "plain" {
		t.Errorf("the container is on %q", name)
	}
}

// A pod's networks are on its object when its first container starts, and in
// its namespace; when it is gone, nothing of them is left on the node.
func TestTwoNetworks(t *testing.T) {
	x := begin(t)
	defineNetworks(t)
	// What the first pod of a network makes for good: bridges, a lease file.
	x.runs(attached("first", "lan,storage"))
	must(t, cluster.DeletePod("shop", "first"))
	before := look(t)
	logged := node.Agent.logSize()

	pod := x.runs(attached("two", "lan,storage"))
	var names []string
	for _, status := range statuses(t, pod) {
		names = append(names, status.Interface+" "+status.Name)
	}
	if want := []string{"eth0 cluster", "net1 shop/lan", "net2 shop/storage"}; !cmp.Equal(names, want) {
		t.Errorf("network-status has %q, want %q", names, want)
	}
	must(t, node.InPod(pod, func() error {
		for _, status := range statuses(t, pod) {
			link, err := net.InterfaceByName(status.Interface)
			if err != nil {
				return fmt.Errorf("%s: %w", status.Interface, err)
			}
			if link.HardwareAddr.String() != status.Mac {
				return fmt.Errorf("%s has %s, network-status says %s", link.Name, link.HardwareAddr, status.Mac)
			}
		}
		return nil
	}))
	_, start, err := node.Environment(pod, "app")
	must(t, err)
	said := published(t, pod)
	t.Logf("network-status %s before the first line of the container", start.Sub(said).Round(time.Millisecond))
	// No pod waits for an API server that does not take it in time.
	log := node.Agent.logFrom(logged)
	slow := strings.Contains(log, "network-status is tried again") && strings.Contains(log, "deadline exceeded")
	if !said.Before(start) && !slow {
		t.Errorf("network-status came %s after the first container had started", said.Sub(start))
	}

	must(t, cluster.DeletePod("shop", "two"))
	same(t, before)
}

// published is when the API server had the pod's network-status, for the
// first time. A pod of that name may have been there before.
func published(t *testing.T, pod *corev1.Pod) time.Time {
	t.Helper()
	for _, entry := range cluster.RequireAuditLog(t, AgentAccount) {
		if entry.Verb == "patch" && entry.Resource == "pods" && entry.Subresource == "status" && entry.Name == pod.Name && entry.Code == 200 &&
			!entry.Received.Before(pod.CreationTimestamp.Time) {
			return entry.Answered
		}
	}
	t.Fatalf("nobody published the networks of %s", pod.Name)
	return time.Time{}
}

// look waits until no pod is left on the node, and takes a snapshot. A shim
// lives a moment longer than its pod.
func look(t *testing.T) string {
	t.Helper()
	snapshot, err := Still(0, func() (string, error) { return nettest.Snapshot(node.SnapshotOptions()) })
	must(t, err)
	return snapshot
}

// same expects that the node is as before, once what the runtime and the kernel
// do in their own time is done.
func same(t *testing.T, before string) {
	t.Helper()
	after := look(t)
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); after = look(t) {
		time.Sleep(100 * time.Millisecond)
	}
	nettest.RequireSame(t, before, after)
}

// Whatever ends and starts again, pods that run stay, and new ones come.
func TestProcesses(t *testing.T) {
	x := begin(t)
	defineNetworks(t)
	stays := x.runs(attached("stays", "lan"))
	must(t, node.Kubelet.Restart())
	for i, processes := range [][]*Process{{node.Kubelet}, {node.Containerd}, {node.Agent}, {cluster.Scheduler, cluster.ControllerManager}} {
		for _, p := range processes {
			pid := p.Pid()
			must(t, p.Kill())
			if p.Running() || syscall.Kill(pid, 0) == nil {
				t.Errorf("%s still runs", p.Name())
			}
		}
		for _, p := range processes {
			must(t, p.Start())
		}
		began := time.Now()
		must(t, node.WaitRuntime())
		must(t, node.WaitAgent())
		must(t, cluster.WaitReady(node))
		x.runs(attached("after-"+strconv.Itoa(i), "lan"))
		t.Logf("%s: a new pod ran %.1f s after the start", processes[0].Name(), time.Since(began).Seconds())
	}
	again, err := cluster.GetPod("shop", "stays")
	must(t, err)
	if again.Status.ContainerStatuses[0].RestartCount != 0 || again.Status.ContainerStatuses[0].ContainerID != stays.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("the pod that should stay was restarted: %+v", again.Status.ContainerStatuses)
	}
}

// A node without the API server goes on, and hears of new pods afterwards.
func TestCutAPI(t *testing.T) {
	x := begin(t)
	node.CutAPI()
	t.Cleanup(func() { must(t, node.RestoreAPI()) })
	if _, err := node.Dial("tcp", strings.TrimPrefix(cluster.URL(), "https://")); err == nil {
		t.Error("the node still reaches the API server")
	}
	x.creates(NewPod("shop", "late"))
	_, err := cluster.WaitPod("shop", "late", "is scheduled", func(p *corev1.Pod) (bool, string) { return p.Spec.NodeName != "", "it is not" })
	must(t, err)
	must(t, node.RestoreAPI())
	pod := NewPod("shop", "late")
	_, err = cluster.WaitRunning(pod)
	must(t, err)
}

// A node that loses its power comes back with its disk, another boot ID and
// the pod, which has its networks again.
func TestReboot(t *testing.T) {
	x := begin(t)
	defineNetworks(t)
	pod := x.runs(attached("rebooted", "lan,storage"))
	before, err := cluster.GetNode(node.Name)
	must(t, err)
	must(t, node.Crash())
	if node.Kubelet.Running() || node.Agent.Running() {
		t.Fatal("its processes run on")
	}
	began := time.Now()
	must(t, node.Boot())
	_, err = cluster.WaitNode(node.Name, "has rebooted", func(n *corev1.Node) (bool, string) {
		return n.Status.NodeInfo.BootID != before.Status.NodeInfo.BootID, "its boot ID is the old one"
	})
	must(t, err)
	must(t, node.WaitAgent())
	again, err := cluster.WaitPod("shop", "rebooted", "runs again", func(p *corev1.Pod) (bool, string) {
		status := p.Status.ContainerStatuses[0]
		return status.RestartCount > 0 && status.State.Running != nil, fmt.Sprint(status.State)
	})
	must(t, err)
	t.Logf("the pod runs again after %.1f s", time.Since(began).Seconds())
	if again.UID != pod.UID {
		t.Error("it is another pod")
	}
	must(t, node.InPod(again, func() error {
		for _, name := range []string{"eth0", "net1", "net2"} {
			if _, linkErr := net.InterfaceByName(name); linkErr != nil {
				return fmt.Errorf("%s: %w", name, linkErr)
			}
		}
		return nil
	}))
}

// Pods of two nodes reach each other, over the cluster network and over a
// macvlan on the wire between the nodes.
func TestTwoNodes(t *testing.T) {
	x := begin(t)
	other, err := cluster.AddNode("node-b", withPlugin)
	must(t, err)
	t.Cleanup(func() { must(t, other.Remove()) })
	must(t, other.StartAgent("--sweep", "1s"))
	must(t, other.WaitAgent())
	must(t, cluster.WaitReady(other))
	define(t, "wire", "", map[string]any{
		"cniVersion": "1.0.0", "name": "wire", "type": "macvlan", "master": "eth0", "mode": "bridge", "capabilities": map[string]bool{"ips": true},
		"ipam": map[string]any{"type": "static"},
	})
	at := func(n *Node, name, address string) *corev1.Pod {
		pod := attached(name, fmt.Sprintf(`[{"name":"wire","ips":[%q]}]`, address))
		pod.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": n.Name}
		return x.runs(pod)
	}
	here, there := at(node, "here", "10.73.0.1/24"), at(other, "there", "10.73.0.2/24")
	for _, address := range []string{there.Status.PodIP, "10.73.0.2"} {
		talk(t, here, other, there, address)
	}
	must(t, cluster.DeletePod("shop", "there"))
}

// talk connects from a pod of node to a pod of another node.
func talk(t *testing.T, from *corev1.Pod, n *Node, to *corev1.Pod, address string) {
	t.Helper()
	var listener net.Listener
	must(t, n.InPod(to, func() error {
		var err error
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "8080"))
		return err
	}))
	defer func() { _ = listener.Close() }()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = conn.Write([]byte("hello\n"))
			_ = conn.Close()
		}
	}()
	must(t, node.InPod(from, func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "8080"), time.Minute)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if line != "hello\n" {
			return fmt.Errorf("%s said %q, %w", address, line, err)
		}
		return nil
	}))
}

// own makes a cluster with a pod, says where, and waits to be killed.
func own() int {
	c, err := New()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	n, err := c.AddNode("node-a", withPlugin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(c.dir.Path, n.Containerd.Pid(), n.Kubelet.Pid(), c.Scheduler.Pid())
	time.Sleep(time.Hour)
	return 0
}

// Nothing of a killed test survives but its directory and empty cgroups, and
// those go with the next cluster.
func TestOwnerKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	owner := exec.CommandContext(ctx, os.Args[0])
	owner.Env = append(os.Environ(), envOwner+"=1")
	owner.Stderr = os.Stderr
	stdout, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	must(t, owner.Process.Kill())
	_ = owner.Wait()
	var dir string
	pids := make([]int, 3)
	if _, err = fmt.Sscan(line, &dir, &pids[0], &pids[1], &pids[2]); err != nil {
		t.Fatal(err)
	}
	must(t, kubetest.Poll(patience, func() (bool, error) {
		for _, pid := range pids {
			// A zombie has no executable.
			if exe, linkErr := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); linkErr == nil {
				return false, fmt.Errorf("%s still runs", exe)
			}
		}
		return true, nil
	}))
	mounts, err := os.ReadFile("/proc/mounts")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Errorf("something of %s is mounted here", dir)
	}
	long := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(dir, long, long))
	next, err := makeTempDir()
	must(t, err)
	must(t, next.Remove())
	var left []string
	roots, err := hierarchies()
	must(t, err)
	for _, root := range roots {
		found, globErr := filepath.Glob(filepath.Join(root, filepath.Base(dir)+"*"))
		must(t, globErr)
		left = append(left, found...)
	}
	if _, err = os.Stat(dir); !os.IsNotExist(err) || len(left) > 0 {
		t.Errorf("left over: %v, %v", err, left)
	}
}
