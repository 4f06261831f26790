package sriovkube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// busybox is where the containers have it: the guest has brought it along.
const busybox = "/busybox"

// script is what a container does: it says what it sees, and waits.
const script = `trap exit TERM
env | grep PCIDEVICE || true
for path in /sys/class/net/*; do
	echo "nic ${path##*/} $(basename "$(readlink "$path/device")") $(cat "$path/address")"
done
for path in /dev/vfio/*; do
	[ -c "$path" ] && echo "device $path $( (exec 3<>"$path") 2>&1 && echo opened)"
done
echo end
sleep 1000000 & wait`

// container of a pod that is to be.
type container struct {
	name      string
	resources map[string]int
}

// request is a pod that is to be.
type request struct {
	name       string
	node       *node
	networks   string // the annotation
	containers []container
}

// pod is one that runs.
type pod struct {
	*site
	request
	object *corev1.Pod
	status []networkStatus
	sights map[string]sight               // by container
	grants map[string]map[string][]string // what kubelet says that it gave: by container and resource, in order
}

// sight is what a container sees.
type sight struct {
	env     map[string]string
	nics    map[string]nic
	devices map[string]string // /dev/vfio/N: opened
}

type nic struct{ pci, mac string }

// devices are those that a container's environment names, of a resource.
func (s sight) given(name string) []string {
	value := s.env["PCIDEVICE_"+strings.ToUpper(strings.NewReplacer(".", "_", "/", "_").Replace(name))]
	return slices.DeleteFunc(strings.Split(value, ","), func(s string) bool { return s == "" })
}

// networkStatus is an element of the annotation network-status.
type networkStatus struct {
	Name, Interface, MAC string
	IPs                  []string
	DeviceInfo           *deviceInfo `json:"device-info"`
}

type deviceInfo struct {
	Type string
	PCI  struct {
		Address string `json:"pci-address"`
	}
}

func (d *deviceInfo) address() string {
	if d == nil {
		return "none"
	}
	return d.PCI.Address
}

// manifest is the request as the API server takes it.
func (r request) manifest() *corev1.Pod {
	p := nodetest.NewPod("default", r.name)
	p.Annotations["k8s.v1.cni.cncf.io/networks"] = r.networks
	p.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": r.node.name}
	p.Spec.Volumes = []corev1.Volume{{Name: "tools", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/busybox"}}}}
	p.Spec.Containers = nil
	for _, c := range r.containers {
		k := nodetest.NewContainer(c.name)
		k.Command, k.Args = []string{busybox, "sh", "-c", script}, nil
		k.VolumeMounts = []corev1.VolumeMount{{Name: "tools", MountPath: busybox, ReadOnly: true}}
		k.Resources.Limits = corev1.ResourceList{}
		for name, count := range c.resources {
			k.Resources.Limits[corev1.ResourceName(name)] = *resource.NewQuantity(int64(count), resource.DecimalSI)
		}
		p.Spec.Containers = append(p.Spec.Containers, k)
	}
	return p
}

// create creates pods, and returns when they run and have said what they see.
func (s *site) create(t *testing.T, requests ...request) []*pod {
	t.Helper()
	for _, r := range requests {
		s.ask(t, r)
	}
	var pods []*pod
	for _, r := range requests {
		pods = append(pods, s.running(t, r))
	}
	return pods
}

// ask creates a pod, which a test that fails does not leave to the next.
func (s *site) ask(t *testing.T, r request) {
	t.Helper()
	must(t, s.cluster.CreatePod(r.manifest()))
	t.Cleanup(func() {
		if t.Failed() {
			_ = s.cluster.DeletePod("default", r.name)
		}
	})
}

// running returns the pod when it runs and has said what it sees.
func (s *site) running(t *testing.T, r request) *pod {
	t.Helper()
	begin := time.Now()
	p := &pod{site: s, request: r, sights: map[string]sight{}}
	var err error
	p.object, err = s.cluster.WaitRunning(r.manifest())
	must(t, err)
	eventually(t, "the network-status of "+r.name, p.readStatus)
	for _, c := range r.containers {
		eventually(t, "the log of "+r.name, func() error { return p.see(c.name) })
	}
	p.grants = p.readGrants(t)
	t.Logf("pod %s runs after %.1f s more: %s", r.name, time.Since(begin).Seconds(), p.told())
	return p
}

// readStatus reads the pod's network-status, which may come after it.
func (p *pod) readStatus() error {
	var err error
	if p.object, err = p.cluster.GetPod("default", p.name); err != nil {
		return err
	}
	return json.Unmarshal([]byte(p.object.Annotations["k8s.v1.cni.cncf.io/network-status"]), &p.status)
}

// told is what the pod has said, for people.
func (p *pod) told() string {
	text := ""
	for _, c := range p.containers {
		text += fmt.Sprintf("\n  %s sees %+v, kubelet gave it %v", c.name, p.sights[c.name], p.grants[c.name])
	}
	return text
}

// see reads a container's log, as kubelet keeps it.
func (p *pod) see(container string) error {
	raw, err := p.node.machine.Read(fmt.Sprintf("/var/log/pods/default_%s_%s/%s/0.log", p.name, p.object.UID, container))
	if err != nil {
		return err
	}
	s := sight{env: map[string]string{}, nics: map[string]nic{}, devices: map[string]string{}}
	for line := range strings.Lines(string(raw)) {
		// Time, stream and whether the line is whole come before it.
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(fields) < 4 {
			continue
		}
		text := fields[3]
		words := strings.Fields(text)
		switch {
		case strings.HasPrefix(text, "PCIDEVICE"):
			name, value, _ := strings.Cut(text, "=")
			s.env[name] = value
		case len(words) == 4 && words[0] == "nic":
			s.nics[words[1]] = nic{words[2], words[3]}
		case len(words) == 3 && words[0] == "nic": // without a device
			s.nics[words[1]] = nic{"", words[2]}
		case len(words) > 1 && words[0] == "device":
			s.devices[words[1]] = strings.Join(words[2:], " ")
		case text == "end":
			p.sights[container] = s
			return nil
		}
	}
	return fmt.Errorf("not at its end: %q", raw)
}

// exec runs one of busybox's programs in a container.
func (p *pod) exec(container string, args ...string) (string, error) {
	var id string
	for i := range p.object.Status.ContainerStatuses {
		if c := &p.object.Status.ContainerStatuses[i]; c.Name == container {
			id = strings.TrimPrefix(c.ContainerID, "containerd://")
		}
	}
	return p.node.machine.Output(append([]string{
		p.node.ctr(), "-n", "k8s.io", "tasks", "exec", "--exec-id", fmt.Sprintf("x%d", time.Now().UnixNano()), id, busybox,
	}, args...)...)
}

// remove deletes pods, and returns when they are gone: after their DEL.
func (s *site) remove(t *testing.T, pods ...*pod) {
	t.Helper()
	var all sync.WaitGroup
	for _, p := range pods {
		all.Go(func() {
			if err := s.cluster.DeletePod("default", p.name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
