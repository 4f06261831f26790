package nodetest

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const checkpointFile = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"

// While a pod's network is being made, kubelet knows the pod's devices already:
// by List and Get of pod-resources, and in its checkpoint.
func TestPodResourcesAtADD(t *testing.T) {
	x := withVFs(t, 4)
	for _, left := range []string{"/making", "/go"} { // by an earlier run on this node
		must(t, os.RemoveAll(node.Path(records+left)))
	}
	defineVF(t, "held", map[string]string{"touch": "making"}, map[string]string{"waitFor": "go"})
	pod := attached("held", "vf,held")
	wantsDevices(&pod.Spec.Containers[0], 2)
	x.creates(pod)
	_, err := cluster.WaitPod("shop", "held", "is in ADD", func(p *corev1.Pod) (bool, string) {
		_, statErr := os.Stat(node.Path(records + "/making"))
		return statErr == nil, p.Status.String()
	})
	must(t, err)
	now, err := cluster.GetPod("shop", "held")
	must(t, err)
	listed, got, noted := x.podResources(now), x.podResourcesOf(now), x.checkpointed(now)
	must(t, node.Write(records+"/go", ""))
	running, err := cluster.WaitRunning(pod)
	must(t, err)
	want := strings.Split(environ(t, running, "app")[variable], ",")
	if told := x.told(running); len(want) != 2 || !cmp.Equal(told, []string{"net1 " + want[0], "net2 " + want[1]}) {
		t.Errorf("the container got %q, the networks' plugins %q", want, told)
	}
	for how, ids := range map[string][]string{"List": listed, "Get": got, "the checkpoint": noted} {
		if !cmp.Equal(ids, want) {
			t.Errorf("at ADD, %s had %q for the pod, and its container got %q", how, ids, want)
		}
	}
}

// The agent finds the devices in the real checkpoint when kubelet's socket
// says nothing.
func TestDevicesOfCheckpoint(t *testing.T) {
	x := withVFs(t, 2)
	x.replaceAgent(node.Agent.Stop, append(agentFlags(), "--pod-resources-socket", "/run/nobody.sock", "--device-checkpoint", checkpointFile)...)
	t.Cleanup(func() {
		must(t, node.StartAgent(agentFlags()...))
		must(t, node.WaitAgent())
	})
	x.device(x.runs(wants("noted")))
	if log := node.Agent.Log(); !strings.Contains(log, checkpointFile) {
		t.Errorf("the agent does not say that it read the checkpoint:\n%s", log)
	}
}

// ask asks kubelet's pod-resources.
func (x *trial) ask(question func(podresources.PodResourcesListerClient) error) error {
	x.Helper()
	socket := node.Path("/var/lib/kubelet/pod-resources/kubelet.sock")
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	return errors.Join(question(podresources.NewPodResourcesListerClient(conn)), conn.Close())
}

// podResources are the devices that List shows for the pod.
func (x *trial) podResources(pod *corev1.Pod) []string {
	x.Helper()
	var ids []string
	must(x, x.ask(func(c podresources.PodResourcesListerClient) error {
		list, err := c.List(x.Context(), &podresources.ListPodResourcesRequest{})
		for _, p := range list.GetPodResources() {
			if p.Namespace == pod.Namespace && p.Name == pod.Name {
				ids = devicesOf(p)
			}
		}
		return err
	}))
	return ids
}

// podResourcesOf are those that Get shows.
func (x *trial) podResourcesOf(pod *corev1.Pod) []string {
	x.Helper()
	var ids []string
	must(x, x.ask(func(c podresources.PodResourcesListerClient) error {
		answer, err := c.Get(x.Context(), &podresources.GetPodResourcesRequest{PodNamespace: pod.Namespace, PodName: pod.Name})
		ids = devicesOf(answer.GetPodResources())
		return err
	}))
	return ids
}

// allocatable are the devices that kubelet may give at this moment, or has
// given.
func (x *trial) allocatable() ([]string, error) {
	x.Helper()
	var ids []string
	err := x.ask(func(c podresources.PodResourcesListerClient) error {
		answer, err := c.GetAllocatableResources(x.Context(), &podresources.AllocatableResourcesRequest{})
		ids = devicesIn(answer.GetDevices())
		return err
	})
	return ids, err
}

func devicesOf(p *podresources.PodResources) []string {
	var all []*podresources.ContainerDevices
	for _, container := range p.GetContainers() {
		all = append(all, container.Devices...)
	}
	return devicesIn(all)
}

func devicesIn(all []*podresources.ContainerDevices) []string {
	var ids []string
	for _, devices := range all {
		if devices.ResourceName == fast {
			ids = append(ids, devices.DeviceIds...)
		}
	}
	slices.Sort(ids)
	return ids
}

// checkpointed are the devices that kubelet has written down for the pod.
func (x *trial) checkpointed(pod *corev1.Pod) []string {
	x.Helper()
	raw, err := os.ReadFile(node.Path(checkpointFile))
	must(x, err)
	var file struct {
		Data struct {
			PodDeviceEntries []struct {
				PodUID       string
				ResourceName string
				DeviceIDs    map[string][]string // by NUMA node
			}
		}
	}
	must(x, json.Unmarshal(raw, &file))
	if len(file.Data.PodDeviceEntries) == 0 {
		must(x, errors.New("the checkpoint has no pods: "+string(raw)))
	}
	var ids []string
	for _, e := range file.Data.PodDeviceEntries {
		if e.PodUID == string(pod.UID) && e.ResourceName == fast {
			for _, some := range e.DeviceIDs {
				ids = append(ids, some...)
			}
		}
	}
	slices.Sort(ids)
	return ids
}
