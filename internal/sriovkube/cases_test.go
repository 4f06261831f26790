package sriovkube

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

// defineAll defines the networks that the pods here ask for.
func (s *site) defineAll(t *testing.T) {
	t.Helper()
	ipam := func(subnet string) obj {
		return obj{"type": "host-local", "ranges": []any{[]any{obj{"subnet": subnet}}}}
	}
	s.define(t, "left", fast, obj{"type": "sriov", "ipam": ipam("10.56.1.0/24")})
	s.define(t, "right", fast, obj{"type": "sriov", "vlan": 77, "ipam": ipam("10.56.2.0/24")})
	s.define(t, "broad", wide, obj{"type": "sriov", "ipam": ipam("10.56.3.0/24")})
	s.define(t, "span", fast, obj{"type": "sriov", "ipam": obj{"type": "fixipam", "subnet": "10.56.4.0/24"}})
	s.define(t, "user", dpdk, obj{"type": "sriov", "vlan": 42})
}

// nicHas fails unless the VF behind the pod's interface is this one, by every
// account: the container's own look, network-status, the files of the device
// information, and that of kubelet, which gave it to that container.
func (p *pod) nicHas(t *testing.T, ifname, device, container, resource string) {
	t.Helper()
	status := p.statusOf(t, ifname)
	attachment, plugin := p.deviceInfoOf(t, strings.TrimPrefix(status.Name, "default/"), ifname, resource, device)
	for account, got := range map[string]string{
		"the network-status": status.DeviceInfo.address(), "the attachment's device information": attachment, "the device plugin's device information": plugin,
	} {
		if got != device {
			t.Errorf("%s of %s: %s has %s, want %s", account, p.name, ifname, got, device)
		}
	}
	for name, s := range p.sights {
		if got := s.nics[ifname]; got.pci != device || got.mac != status.MAC {
			t.Errorf("container %s of %s sees %+v behind %s, want %s with %s", name, p.name, got, ifname, device, status.MAC)
		}
	}
	if granted := p.grants[container][resource]; !slices.Contains(granted, device) {
		t.Errorf("kubelet gave container %s of %s %v, and %s has %s", container, p.name, granted, ifname, device)
	}
}

func (p *pod) statusOf(t *testing.T, ifname string) networkStatus {
	t.Helper()
	i := slices.IndexFunc(p.status, func(s networkStatus) bool { return s.Interface == ifname })
	if i < 0 {
		t.Fatalf("%s has no %s in its network-status: %+v", p.name, ifname, p.status)
	}
	return p.status[i]
}

// given are the devices in a container's environment, in their order. Kubelet
// must say the same.
func (p *pod) given(t *testing.T, container, resource string, want int) []string {
	t.Helper()
	devices := p.sights[container].given(resource)
	if len(devices) != want || !slices.IsSorted(devices) {
		t.Fatalf("container %s of %s has %v of %s in its environment, want %d in order: %v", container, p.name, devices, resource, want, p.sights[container].env)
	}
	if granted := p.grants[container][resource]; !slices.Equal(granted, devices) {
		t.Errorf("container %s of %s has %v in its environment, kubelet gave it %v", container, p.name, devices, granted)
	}
	return devices
}

// The VF in a NIC is one of the container's that the network was meant for:
// with two resources in two containers, two networks of one resource, a network
// that is pinned to a container. The same after a restart of the agent.
func pairing(t *testing.T, s *site, n *node) {
	n.home(t)
	s.waitAllocatable(t, n, fast, "4")
	s.paired(t, n, "all-of-them", 4)
	s.waitAllocatable(t, n, wide, "2")
	two := s.create(t, request{name: "two-resources", node: n, networks: "broad, left", containers: []container{
		{"app", map[string]int{fast: 1}}, {"router", map[string]int{wide: 1}},
	}})[0]
	two.nicHas(t, "net1", two.given(t, "router", wide, 1)[0], "router", wide)
	two.nicHas(t, "net2", two.given(t, "app", fast, 1)[0], "app", fast)

	// Nobody gets a VF while the agent is away, and those that are in pods stay counted.
	must(t, n.machine.Kill("multiplexerd"))
	s.waitAllocatable(t, n, fast, "0")
	must(t, n.agent())
	s.waitAllocatable(t, n, fast, "4")
	s.waitAllocatable(t, n, wide, "2")
	s.paired(t, n, "after-restart", 3)
	two.nicHas(t, "net1", two.given(t, "router", wide, 1)[0], "router", wide)
	two.nicHas(t, "net2", two.given(t, "app", fast, 1)[0], "app", fast)
	s.remove(t, two)
}

// paired is a pod that takes so many of the node's VFs, in two containers, for
// two networks.
func (s *site) paired(t *testing.T, n *node, name string, count int) {
	t.Helper()
	p := s.create(t, request{name: name, node: n, networks: `[{"name": "left"}, {"name": "right", "io.github.multiplexer-cni/device": {"container": "router"}}]`, containers: []container{
		{"app", map[string]int{fast: count - 1}}, {"router", map[string]int{fast: 1}},
	}})[0]
	p.nicHas(t, "net1", p.given(t, "app", fast, count-1)[0], "app", fast)
	p.nicHas(t, "net2", p.given(t, "router", fast, 1)[0], "router", fast)
	s.remove(t, p)
}

// One VF on each of two nodes: it is in the environment, behind the NIC, in
// network-status, in device-info and with kubelet. The pods talk, from VF to VF:
// each knows the other by the address of its VF. Then the VFs go home.
func twoNodes(t *testing.T, s *site) {
	var requests []request
	for i, n := range s.nodes {
		n.home(t)
		requests = append(requests, request{
			name: fmt.Sprintf("end-%d", i), node: n, containers: []container{{"app", map[string]int{fast: 1}}},
			networks: fmt.Sprintf(`[{"name": "span", "cni-args": {"IP": "10.56.4.%d"}}]`, i+1),
		})
	}
	pods := s.create(t, requests...)
	for i, p := range pods {
		p.isOneVF(t)
		other := pods[1-i].statusOf(t, "net1")
		eventually(t, "ping from "+p.name, func() error {
			_, err := p.exec("app", "ping", "-c", "1", "-W", "2", "-I", "net1", other.IPs[0])
			return err
		})
		neighbours, err := p.exec("app", "ip", "neigh", "show", "dev", "net1")
		must(t, err)
		if !strings.Contains(neighbours, other.MAC) {
			t.Errorf("%s knows %q, and the other's VF is %s", p.name, neighbours, other.MAC)
		}
	}
	s.remove(t, pods...)
	for _, n := range s.nodes {
		s.waitAllocatable(t, n, fast, strconv.Itoa(n.vfs[0]))
	}
}

// isOneVF judges the only VF of a pod, and what is said of it.
func (p *pod) isOneVF(t *testing.T) {
	t.Helper()
	device := p.given(t, "app", fast, 1)[0]
	if vfs := p.node.vfsOf(t, guest.PFs()[0]); !slices.Contains(vfs, device) {
		t.Errorf("%s is no VF of the first PF, which has %v", device, vfs)
	}
	p.nicHas(t, "net1", device, "app", fast)
	if info := p.sights["app"].env["PCIDEVICE_EXAMPLE_COM_FAST_INFO"]; !strings.Contains(info, device) {
		t.Errorf("the environment's information is %q, without %s", info, device)
	}
	vfs, err := p.node.listed()
	must(t, err)
	if vf := vfs[device]; vf.State != "in pod" || vf.Pod != p.name {
		t.Errorf("the VF in the pod is listed as %+v", vf)
	}
}

// VFs that are made are offered, VFs that get another driver are of another
// resource then, and VFs that vanish are of none, while the agent runs on.
func comeAndGo(t *testing.T, s *site, n *node) {
	pf := guest.PFs()[1]
	n.home(t)
	s.noneAllocatable(t, n, wide)
	must(t, n.setVFs(pf, 2))
	s.waitAllocatable(t, n, wide, "2")
	p := s.create(t, request{name: "late", node: n, networks: "broad", containers: []container{{"app", map[string]int{wide: 2}}}})[0]
	devices := p.given(t, "app", wide, 2)
	if vfs := n.vfsOf(t, pf); !slices.Equal(devices, vfs) {
		t.Errorf("the pod was given %v, the VFs are %v", devices, vfs)
	}
	p.nicHas(t, "net1", devices[0], "app", wide)
	s.remove(t, p)

	must(t, n.bind(devices[1], "vfio-pci"))
	s.waitAllocatable(t, n, wide, "1")
	s.waitAllocatable(t, n, dpdk, "1")
	t.Run("vfio", func(t *testing.T) { vfio(t, s, n, devices[1]) })
	must(t, n.bind(devices[1], "igbvf"))
	s.waitAllocatable(t, n, wide, "2")
	s.noneAllocatable(t, n, dpdk)

	must(t, n.setVFs(pf, 0))
	s.noneAllocatable(t, n, wide)
}

// noneAllocatable waits until nothing of a resource is: it is 0, or not known.
func (s *site) noneAllocatable(t *testing.T, n *node, resource string) {
	t.Helper()
	eventually(t, resource+" of "+n.name, func() error {
		got, err := s.allocatable(n, resource)
		if err == nil && got != "" && got != "0" {
			err = fmt.Errorf("%s is allocatable, want none", got)
		}
		return err
	})
}

// A VF on vfio-pci: the container can open its group, and the VF's settings are
// the network's.
func vfio(t *testing.T, s *site, n *node, device string) {
	n.home(t)
	user := request{name: "user", node: n, networks: "user", containers: []container{{"app", map[string]int{dpdk: 1}}}}
	p := s.create(t, user)[0]
	if got := p.given(t, "app", dpdk, 1)[0]; device != got {
		t.Errorf("the pod was given %s, the VF on vfio-pci is %s", got, device)
	}
	group, err := n.machine.Readlink("/sys/bus/pci/devices/" + device + "/iommu_group")
	must(t, err)
	group = "/dev/vfio/" + group[strings.LastIndex(group, "/")+1:]
	if got := p.sights["app"].devices; got[group] != "opened" || got["/dev/vfio/vfio"] != "opened" || len(got) != 2 {
		t.Errorf("the container's devices are %v, want %s and /dev/vfio/vfio", got, group)
	}
	if status := p.statusOf(t, "net1"); status.DeviceInfo.address() != device {
		t.Errorf("network-status has %s, want %s", status.DeviceInfo.address(), device)
	}
	cards, err := n.cards()
	must(t, err)
	if !strings.Contains(cards, "vlan 42") {
		t.Errorf("the VF is not in VLAN 42:\n%s", cards)
	}
	s.remove(t, p)
}
