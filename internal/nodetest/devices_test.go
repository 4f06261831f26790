package nodetest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const (
	fast     = "intel.com/fast"
	variable = "PCIDEVICE_INTEL_COM_FAST"
	// records is where the recorder that stands for an SR-IOV plugin writes.
	records = "/var/lib/recorder"
)

// withVFs begins a test on VFs of the card, which the agent offers as one
// resource, with a network of that resource.
func withVFs(t *testing.T, vfs int) *trial {
	t.Helper()
	const config = "/etc/multiplexer/devices/config.json"
	// What the test before offered may still be what kubelet and the node's
	// object say: as many devices as this one waits for.
	(&trial{T: t}).offered(0)
	must(t, tree.SetVFs(pf, vfs))
	must(t, node.Write(config, `{"resourceList":[{"resourceName":"fast","selectors":[{"vendors":["8086"],"pfNames":["ens1f0"]}]}]}`))
	var x *trial
	t.Cleanup(func() {
		x.waitGone() // who has a VF must have left
		must(t, os.Remove(node.Path(config)))
		must(t, tree.SetVFs(pf, 0))
	})
	x = begin(t) // its pods are deleted first
	defineVF(t, "vf")
	x.offered(vfs)
	return x
}

// defineVF defines a network of the resource, whose plugin writes down which
// device it was given, and then does the steps.
func defineVF(t *testing.T, name string, steps ...any) {
	t.Helper()
	steps = append([]any{map[string]bool{"allocate": true}, map[string]bool{"link": true}}, steps...)
	define(t, name, fast, map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": []any{map[string]any{
		"type": "recorder", "dir": records, "subnet": "10.74.0.0/24", "capabilities": map[string]bool{"deviceID": true},
		"steps": map[string]any{"ADD": steps},
	}}})
}

// offered waits until so many devices can be had on the node: kubelet says so,
// and then the node's object, which the scheduler reads. That one may be of
// before what the test did last.
func (x *trial) offered(want int) {
	x.Helper()
	must(x, kubetest.Poll(patience, func() (bool, error) {
		got, err := x.allocatable()
		if err == nil && len(got) != want {
			err = fmt.Errorf("kubelet has %q to allocate, want %d", got, want)
		}
		return err == nil, err
	}))
	_, err := cluster.WaitNode(node.Name, fmt.Sprintf("offers %d devices", want), func(n *corev1.Node) (bool, string) {
		got := n.Status.Allocatable[fast]
		return got.Value() == int64(want), "it offers " + got.String()
	})
	must(x, err)
}

// replaceAgent ends the agent and starts another one, when kubelet has noticed
// that nobody offers devices.
func (x *trial) replaceAgent(end func() error, flags ...string) {
	x.Helper()
	was, err := x.allocatable()
	must(x, err)
	must(x, end())
	x.offered(0)
	must(x, node.StartAgent(flags...))
	must(x, node.WaitAgent())
	x.offered(len(was))
}

// wants is a pod with a VF as net1.
func wants(name string) *corev1.Pod {
	pod := attached(name, "vf")
	wantsDevice(&pod.Spec.Containers[0])
	return pod
}

func wantsDevice(c *corev1.Container) { wantsDevices(c, 1) }

func wantsDevices(c *corev1.Container, n int64) {
	c.Resources.Limits = corev1.ResourceList{fast: *resource.NewQuantity(n, resource.DecimalSI)}
}

// device is the VF that a pod has: the same in the environment of its
// container, in what the network's plugin was told when the pod came, and on
// the pod's object.
func (x *trial) device(pod *corev1.Pod) string {
	x.Helper()
	variables := environ(x.T, pod, "app")
	given := variables[variable]
	var info map[string]struct{ Generic struct{ DeviceID string } }
	must(x, json.Unmarshal([]byte(variables[variable+"_INFO"]), &info))
	if info[given].Generic.DeviceID != given {
		x.Errorf("pod %s: the container got %q, and to know %s", pod.Name, given, variables[variable+"_INFO"])
	}
	if told := x.told(pod); !cmp.Equal(told, []string{"net1 " + given}) {
		x.Errorf("pod %s: the container got %q, the network's plugin %q", pod.Name, given, told)
	}
	status := statuses(x.T, pod)[1]
	if status.DeviceInfo == nil || status.DeviceInfo.Pci == nil || status.DeviceInfo.Pci.PciAddress != given {
		x.Errorf("pod %s: the container got %q, network-status has %+v", pod.Name, given, status.DeviceInfo)
	}
	return given
}

// told are interface and device of each ADD of the pod's network.
func (x *trial) told(pod *corev1.Pod) []string {
	x.Helper()
	calls, err := nettest.Calls(node.Path(records))
	must(x, err)
	var told []string
	for _, call := range calls {
		if call.Verb != "ADD" || !strings.Contains(call.Args, "K8S_POD_UID="+string(pod.UID)) {
			continue
		}
		var conf struct {
			DeviceID      string
			RuntimeConfig struct{ DeviceID string }
		}
		must(x, json.Unmarshal([]byte(call.Stdin), &conf))
		if conf.DeviceID != conf.RuntimeConfig.DeviceID {
			x.Errorf("%s: %s", call, call.Stdin)
		}
		told = append(told, call.IfName+" "+conf.DeviceID)
	}
	return told
}

func unschedulable(p *corev1.Pod) (bool, string) {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodScheduled {
			return condition.Reason == corev1.PodReasonUnschedulable && strings.Contains(condition.Message, "Insufficient "+fast), condition.Message
		}
	}
	return false, "nothing is known"
}

// The VF in a pod's NIC is the one in its container's environment; who comes
// too late waits until somebody leaves, and gets that VF. When all are gone,
// nothing of them is left.
func TestDevices(t *testing.T) {
	x := withVFs(t, 2)
	x.runs(wants("vf-0")) // what the first pod makes for good
	must(t, cluster.DeletePod("shop", "vf-0"))
	before := look(t)
	first, second := x.device(x.runs(wants("vf-1"))), x.device(x.runs(wants("vf-2")))
	given := []string{first, second}
	slices.Sort(given)
	if want := tree.VFs(pf); !cmp.Equal(given, want) {
		t.Errorf("the pods have %q, the card %q", given, want)
	}
	x.creates(wants("vf-3"))
	_, err := cluster.WaitPod("shop", "vf-3", "is known to have no room", unschedulable)
	must(t, err)
	must(t, cluster.DeletePod("shop", "vf-1"))
	third := x.running(wants("vf-3"))
	if got := x.device(third); got != first {
		t.Errorf("the third pod has %s, the first left %s", got, first)
	}
	must(t, cluster.DeletePod("shop", "vf-2"))
	must(t, cluster.DeletePod("shop", "vf-3"))
	same(t, before)
}

// A network that is pinned to a container has that container's VF.
func TestDevicesOfContainers(t *testing.T) {
	x := withVFs(t, 4)
	pod := attached("pair", `[{"name":"vf","io.github.multiplexer-cni/device":{"container":"side"}},{"name":"vf","io.github.multiplexer-cni/device":{"container":"app"}}]`)
	pod.Spec.Containers = append(pod.Spec.Containers, NewContainer("side"))
	for i := range pod.Spec.Containers {
		wantsDevice(&pod.Spec.Containers[i])
	}
	running := x.runs(pod)
	app, side := environ(t, running, "app")[variable], environ(t, running, "side")[variable]
	if told := x.told(running); !cmp.Equal(told, []string{"net1 " + side, "net2 " + app}) || app == side {
		t.Errorf("side has %s, app %s, the networks %q", side, app, told)
	}
}

// What was given stays given, and what is free can be had, when kubelet or the
// agent starts again.
func TestDevicesSurviveRestarts(t *testing.T) {
	x := withVFs(t, 4)
	pods := []*corev1.Pod{x.runs(wants("stay-0"))}
	for i, restart := range []func(){
		func() {
			must(t, node.Kubelet.Restart())
			must(t, node.WaitRuntime())
			x.offered(4)
		},
		func() { x.replaceAgent(node.Agent.Stop, agentFlags()...) },
		func() { x.replaceAgent(node.Agent.Kill, agentFlags()...) },
	} {
		restart()
		pods = append(pods, x.runs(wants(fmt.Sprint("stay-", i+1))))
	}
	var given []string
	for _, pod := range pods {
		given = append(given, x.device(pod))
		again, err := cluster.GetPod(pod.Namespace, pod.Name)
		must(t, err)
		if again.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("pod %s was restarted", pod.Name)
		}
	}
	slices.Sort(given)
	if len(slices.Compact(slices.Clone(given))) != 4 {
		t.Errorf("the pods have %q", given)
	}
}

// A VF that vanishes is not offered any more, until it is back.
func TestDeviceVanishes(t *testing.T) {
	x := withVFs(t, 2)
	gone := tree.VFs(pf)[0]
	tree.Remove(gone)
	x.offered(1)
	pod := x.runs(wants("rest"))
	if x.device(pod) == gone {
		t.Errorf("the pod got %s, which is not there", gone)
	}
	tree.Replug(gone)
	x.offered(2)
	x.runs(wants("back"))
}
