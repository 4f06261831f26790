package deviceplugin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	cdi "tags.cncf.io/container-device-interface/specs-go"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// devices makes device files of the node.
func (b *bed) devices(paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		b.write(filepath.Join(b.dir, strings.TrimPrefix(path, "/")), "")
	}
}

// infoOf decodes the variable _INFO.
func infoOf(t *testing.T, text string) map[string]map[string]map[string]string {
	t.Helper()
	var info map[string]map[string]map[string]string
	must(t, json.Unmarshal([]byte(text), &info))
	return info
}

func TestAllocate(t *testing.T) {
	b := newBed(t)
	// The second card's domain comes after the first's, not between by letters.
	pf := b.tree.Add(xxv710(2))
	far := b.tree.Add(cards.Card{Model: cards.X710, PCI: "10000:01:00.0", Name: "ens2f0", VFs: 1, NUMA: -1})
	b.configure(`{"resourceList": [{"resourcePrefix": "vendor.com", "resourceName": "fast-nics", "selectors": [{"drivers": ["iavf"]}],
		"additionalInfo": {"*": {"vlan": "7", "zone": "a"}, "` + b.tree.VFs(pf)[1] + `": {"zone": "b"}}}]}`)
	b.run()
	all := append(b.tree.VFs(pf), b.tree.VFs(far)...)
	b.until("kubelet has all", func() bool { return len(b.kubelet.Resources()["vendor.com/fast-nics"].Healthy) == 3 })
	ids, answer, err := b.kubelet.Allocate("vendor.com/fast-nics", 3)
	must(t, err)
	if len(ids) != 3 {
		t.Errorf("%v", ids)
	}
	const name = "PCIDEVICE_VENDOR_COM_FAST"
	envs := answer.GetEnvs()
	for _, key := range []string{name + "-NICS", name + "_NICS"} {
		if got, want := envs[key], strings.Join(all, ","); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if len(envs) != 4 || envs[name+"-NICS_INFO"] != envs[name+"_NICS_INFO"] {
		t.Errorf("%v", envs)
	}
	want := map[string]map[string]map[string]string{
		all[0]: {"generic": {"deviceID": all[0]}, "extra": {"vlan": "7", "zone": "a"}},
		all[1]: {"generic": {"deviceID": all[1]}, "extra": {"vlan": "7", "zone": "b"}},
		all[2]: {"generic": {"deviceID": all[2]}, "extra": {"vlan": "7", "zone": "a"}},
	}
	if diff := cmp.Diff(want, infoOf(t, envs[name+"_NICS_INFO"])); diff != "" {
		t.Error(diff)
	}
	if len(answer.GetDevices()) != 0 || len(answer.GetCdiDevices()) != 0 {
		t.Errorf("a VF that the kernel drives needs no device files: %v", answer)
	}
}

func TestAllocateDeviceFiles(t *testing.T) {
	b := newBed(t)
	intel := b.tree.Add(xxv710(2))
	mlx := b.tree.Add(cards.Card{Model: cards.ConnectX5, PCI: "0000:65:00.0", Name: "ens2f0np0", VFs: 1, NUMA: -1})
	vfs, rdma := b.tree.VFs(intel), b.tree.VFs(mlx)[0]
	b.tree.Bind(vfs[0], cards.VFIO)
	b.tree.Bind(vfs[1], cards.UIOGeneric)
	b.configure(`{"resourceList": [
		{"resourceName": "dpdk", "selectors": [{"drivers": ["vfio-pci"], "needVhostNet": true}]},
		{"resourceName": "uio", "selectors": [{"drivers": ["uio_pci_generic"]}]},
		{"resourceName": "rdma", "selectors": [{"isRdma": true, "pfNames": ["ens2f0np0"]}]}]}`)
	b.run()
	b.require("intel.com/dpdk", vfs[:1], nil)
	b.require("intel.com/uio", vfs[1:], nil)
	b.require("intel.com/rdma", []string{rdma}, nil)

	_, _, err := b.kubelet.Allocate("intel.com/dpdk", 1)
	if err == nil || !strings.Contains(err.Error(), vfs[0]) || !strings.Contains(err.Error(), "modprobe vfio-pci") {
		t.Errorf("without a device file: %v", err)
	}
	group := "/dev/vfio/" + filepath.Base(readLink(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", vfs[0], "iommu_group")))
	b.devices("/dev/vfio/vfio", group)
	_, _, err = b.kubelet.Allocate("intel.com/dpdk", 1)
	if err == nil || !strings.Contains(err.Error(), "modprobe vhost_net") {
		t.Errorf("without vhost-net: %v", err)
	}
	b.devices(vhostNet, netTun)
	_, answer, err := b.kubelet.Allocate("intel.com/dpdk", 1)
	must(t, err)
	requireDevices(t, answer, "/dev/vfio/vfio", group, vhostNet, netTun)
	info := infoOf(t, answer.GetEnvs()["PCIDEVICE_INTEL_COM_DPDK_INFO"])[vfs[0]]
	want := map[string]map[string]string{"generic": {"deviceID": vfs[0]}, "vfio": {"mount": "/dev/vfio/vfio", "dev-mount": group},
		"vhost": {"net-mount": vhostNet, "tun-mount": netTun}}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Error(diff)
	}

	b.devices("/dev/uio0", "/dev/infiniband/rdma_cm")
	_, answer, err = b.kubelet.Allocate("intel.com/uio", 1)
	must(t, err)
	requireDevices(t, answer, "/dev/uio0")
	if got := infoOf(t, answer.GetEnvs()["PCIDEVICE_INTEL_COM_UIO_INFO"])[vfs[1]]["uio"]["mount"]; got != "/dev/uio0" {
		t.Errorf("uio mount %q", got)
	}

	uverbs := ls(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", rdma, "infiniband_verbs"))
	for _, file := range append(uverbs, ls(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", rdma, "infiniband_mad"))...) {
		b.devices("/dev/infiniband/" + file)
	}
	_, answer, err = b.kubelet.Allocate("intel.com/rdma", 1)
	must(t, err)
	info = infoOf(t, answer.GetEnvs()["PCIDEVICE_INTEL_COM_RDMA_INFO"])[rdma]
	if got := info["rdma"]["uverbs"]; got != "/dev/infiniband/"+uverbs[0] {
		t.Errorf("rdma: %v", info)
	}
	if got := info["rdma"]["rdma_dev"]; !strings.HasPrefix(got, "mlx5_") {
		t.Errorf("rdma: %v", info)
	}
	// Still in the pod before.
	b.kubelet.Free("intel.com/rdma", rdma)
	b.tree.HideRDMA(rdma)
	if _, _, err = b.kubelet.Allocate("intel.com/rdma", 1); err == nil || !strings.Contains(err.Error(), "has no RDMA device on the node") {
		t.Errorf("without its RDMA device: %v", err)
	}
}

func requireDevices(t *testing.T, answer *deviceplugin.ContainerAllocateResponse, want ...string) {
	t.Helper()
	var got []string
	for _, d := range answer.GetDevices() {
		if d.GetPermissions() != "rw" || d.GetHostPath() != d.GetContainerPath() {
			t.Errorf("%v", d)
		}
		got = append(got, d.GetContainerPath())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("device files (-want +got):\n%s", diff)
	}
}

func readLink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	must(t, err)
	return target
}

func ls(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAllocateRefuses(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	for name, c := range map[string]struct {
		resource string
		ids      []string
		want     string
	}{
		"another's device": {fast, []string{all[0], "0000:99:00.0"}, "device 0000:99:00.0 is not offered as intel.com/fast"},
		"another resource": {"intel.com/none", all[:1], "intel.com/none is not offered any more"},
	} {
		if _, err := b.manager.allocate(t.Context(), c.resource, c.ids); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The driver changed, and no look has seen that yet.
	b.tree.Bind(all[0], cards.VFIO)
	if _, err := b.manager.allocate(t.Context(), fast, all[:1]); err == nil || !strings.Contains(err.Error(), `has driver "vfio-pci" now, and was offered with "iavf"`) {
		t.Errorf("another driver: %v", err)
	}
	r := record(pf, all[1], 1)
	r.Failed = "no answer"
	b.claim(r)
	b.require(fast, all[:1], all[1:])
	if _, err := b.manager.allocate(t.Context(), fast, all[1:]); err == nil || !strings.Contains(err.Error(), "is quarantined: no answer") {
		t.Errorf("a quarantined device: %v", err)
	}
}

func TestCDI(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(3))
	vfs := b.tree.VFs(pf)
	b.tree.Bind(vfs[0], cards.VFIO)
	b.tree.Bind(vfs[1], cards.VFIO)
	const config = `{"resourceList": [{"resourceName": "mixed", "selectors": [{"pfNames": ["ens1f0"]}]}]}`
	b.configure(config)
	use := func(m *Manager) { m.CDIDir = filepath.Join(b.dir, "cdi") }
	b.write(filepath.Join(b.dir, "cdi", "multiplexer_old.com_gone.json"), "{}")
	b.write(filepath.Join(b.dir, "cdi", "nvidia.json"), "{}")
	b.run(use)
	b.require("intel.com/mixed", vfs, nil)
	for _, vf := range vfs[:2] {
		b.devices("/dev/vfio/vfio", "/dev/vfio/"+filepath.Base(readLink(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", vf, "iommu_group"))))
	}
	_, answer, err := b.kubelet.Allocate("intel.com/mixed", 3)
	must(t, err)
	var names []string
	for _, d := range answer.GetCdiDevices() {
		names = append(names, d.GetName())
	}
	if want := []string{"intel.com/net-mixed=" + vfs[0], "intel.com/net-mixed=" + vfs[1]}; !slices.Equal(names, want) || len(answer.GetDevices()) != 0 {
		t.Errorf("%v and %v, want %v", names, answer.GetDevices(), want)
	}
	if answer.GetEnvs()["PCIDEVICE_INTEL_COM_MIXED"] != strings.Join(vfs, ",") {
		t.Errorf("%v", answer.GetEnvs())
	}
	if files := ls(t, filepath.Join(b.dir, "cdi")); !slices.Equal(files, []string{"multiplexer_intel.com_mixed.json", "nvidia.json"}) {
		t.Errorf("%v", files)
	}
	first := b.read("cdi", "multiplexer_intel.com_mixed.json")
	checkSpec(t, first, vfs[:2])

	// A restart, with VFs that pods have and the node has not any more.
	b.hold(map[string]string{vfs[0]: "shop/web", vfs[1]: "shop/web", vfs[2]: "shop/web"})
	b.end()
	must(t, b.tree.SetVFs(pf, 0))
	b.run(use)
	b.looked()
	if now := b.read("cdi", "multiplexer_intel.com_mixed.json"); now != first {
		t.Errorf("after a restart: %s\nwas %s", now, first)
	}
	b.configure(`{"resourceList": []}`)
	b.require("intel.com/mixed", nil, nil)
	if now := b.read("cdi", "multiplexer_intel.com_mixed.json"); now != first {
		t.Errorf("a pod's devices: %s", now)
	}
	b.hold(map[string]string{})
	b.looked()
	b.until("the spec goes", func() bool {
		return !slices.Contains(ls(t, filepath.Join(b.dir, "cdi")), "multiplexer_intel.com_mixed.json")
	})
}

func checkSpec(t *testing.T, text string, pcis []string) {
	t.Helper()
	var spec cdi.Spec
	must(t, json.Unmarshal([]byte(text), &spec))
	must(t, cdi.ValidateVersion(&spec))
	if spec.Version != "0.5.0" || spec.Kind != "intel.com/net-mixed" || len(spec.Devices) != len(pcis) {
		t.Fatalf("%s", text)
	}
	for i, d := range spec.Devices {
		if d.Name != pcis[i] || len(d.ContainerEdits.DeviceNodes) != 2 || d.ContainerEdits.DeviceNodes[0].HostPath != "/dev/vfio/vfio" ||
			d.ContainerEdits.DeviceNodes[0].Permissions != "rw" {
			t.Errorf("%+v", d)
		}
	}
}

// What a container must know is the same without CDI, where CDI has no name
// for a resource.
func TestCDIHasNoName(t *testing.T) {
	b := newBed(t)
	vf := b.tree.VFs(b.tree.Add(xxv710(1)))[0]
	b.tree.Bind(vf, cards.VFIO)
	b.configure(`{"resourceList": [{"resourcePrefix": "3com.com", "resourceName": "x", "selectors": [{"pfNames": ["ens1f0"]}]}]}`)
	b.run(func(m *Manager) { m.CDIDir = filepath.Join(b.dir, "cdi") })
	b.require("3com.com/x", []string{vf}, nil)
	group := "/dev/vfio/" + filepath.Base(readLink(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", vf, "iommu_group")))
	b.devices("/dev/vfio/vfio", group)
	_, answer, err := b.kubelet.Allocate("3com.com/x", 1)
	must(t, err)
	requireDevices(t, answer, "/dev/vfio/vfio", group)
	if !strings.Contains(b.log.String(), "CDI wants a resourcePrefix that begins with a letter") {
		t.Error("not said")
	}
}

func TestDeviceInfo(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(cards.Card{Model: cards.ConnectX6Dx, PCI: "0000:17:00.0", Name: "ens1f0np0", VFs: 2, NUMA: -1, Switchdev: true})
	vfs := b.tree.VFs(pf)
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"pfNames": ["ens1f0np0"], "needVhostNet": true}]}]}`)
	b.devices(vhostNet, netTun)
	outside := filepath.Join(b.dir, "outside")
	b.write(outside, "keep")
	name := func(vf string) string { return "intel.com-fast-" + vf + "-device.json" }
	dp := filepath.Join(b.dir, "devinfo", "dp")
	must(t, os.MkdirAll(dp, 0o755))
	must(t, os.Symlink(outside, filepath.Join(dp, name(vfs[1]))))
	b.write(filepath.Join(dp, "other.com-x-0000:99:00.0-device.json"), "{}")
	b.run()
	b.require(fast, vfs, nil)
	_, _, err := b.kubelet.Allocate(fast, 2)
	must(t, err)
	for i, vf := range vfs {
		raw := b.read("devinfo", "dp", name(vf))
		must(t, network.CheckDeviceInfo(vf, []byte(raw)))
		var info deviceInfo
		must(t, json.Unmarshal([]byte(raw), &info))
		rdma := ls(t, filepath.Join(b.tree.Dir(), "bus/pci/devices", vf, "infiniband"))
		want := deviceInfo{Type: "pci", Version: "1.1.0", PCI: pciInfo{PCIAddress: vf, PFAddress: pf, VhostNet: vhostNet, RDMADevice: rdma[0],
			Representor: (&Manager{Sys: b.manager.Sys}).Sys.Representors(pf)[i]}}
		if diff := cmp.Diff(want, info); diff != "" || info.PCI.Representor == "" {
			t.Errorf("%s", diff)
		}
		stat, statErr := os.Lstat(filepath.Join(dp, name(vf)))
		if statErr != nil || stat.Mode() != 0o644 {
			t.Errorf("%v, %v", stat, statErr)
		}
	}
	if b.read("outside") != "keep" {
		t.Error("a link was followed")
	}
	b.hold(map[string]string{vfs[0]: "shop/web", vfs[1]: ""})
	b.looked()
	b.run() // survives a restart
	b.looked()
	b.configure(`{"resourceList": []}`)
	b.until("what nobody has is removed", func() bool { return !slices.Contains(ls(t, dp), name(vfs[1])) })
	b.read("devinfo", "dp", name(vfs[0]))
	b.hold(map[string]string{})
	b.until("what a pod had is removed", func() bool { return !slices.Contains(ls(t, dp), name(vfs[0])) })
	if left := ls(t, dp); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// Devices of two PFs, by kubelet's own way of asking.
func TestPreferredByKubelet(t *testing.T) {
	b := newBed(t)
	one := b.tree.Add(xxv710(2))
	two := b.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:65:00.0", Name: "ens2f0", VFs: 3, NUMA: -1})
	b.configure(`{"resourceList": [{"resourceName": "fast", "allocation": "spread", "selectors": [{"drivers": ["iavf"]}]}]}`)
	b.run()
	b.require(fast, append(b.tree.VFs(one), b.tree.VFs(two)...), nil)
	ids, _, err := b.kubelet.Allocate(fast, 2)
	must(t, err)
	if ids[0] != b.tree.VFs(one)[0] || ids[1] != b.tree.VFs(two)[0] {
		t.Errorf("%v", ids)
	}
}

func TestCollisions(t *testing.T) {
	config := &resource.Config{Resources: []resource.Resource{{Name: "a.com/x-y"}, {Name: "a.com/x_y"}, {Name: "a.com/z"}}}
	problems := collisions(config)
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "PCIDEVICE_A_COM_X_Y") {
		t.Errorf("%v", problems)
	}
}
