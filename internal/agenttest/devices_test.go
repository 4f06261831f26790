package agenttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
)

// given are the devices that a pod's networks got, as every plugin of them
// was told in every way.
func (n *Node) given(p *Pod) []string {
	n.Helper()
	var out []string
	for _, c := range n.Calls("ADD") {
		if c.ContainerID != p.Container || c.Name == "cluster" {
			continue
		}
		conf := n.conf(c)
		device, _ := conf["deviceID"].(string)
		capabilities, _ := conf["runtimeConfig"].(obj)
		capability, _ := capabilities["deviceID"].(string)
		if conf["pciBusID"] != conf["deviceID"] || capability != device {
			n.Errorf("%s: %s", c, c.Stdin)
		}
		out = append(out, c.IfName+" "+device)
	}
	return slices.Compact(out) // the plugins of one list agree
}

// defineDevices defines two networks of a resource, each of two plugins, and
// one without.
func (n *Node) defineDevices(prefix string) {
	n.Helper()
	for name, subnet := range map[string]string{prefix + "-a": "10.51.0.0/24", prefix + "-b": "10.52.0.0/24", prefix + "-plain": "10.53.0.0/24"} {
		list := n.With(n.List(name, subnet), "capabilities", obj{"deviceID": true})
		second := n.With(n.Stepped("", subnet, obj{"ADD": []any{}, "DEL": []any{}}), "capabilities", obj{"deviceID": true})
		list["plugins"] = append(list["plugins"].([]any), second["plugins"].([]any)...)
		resource := "example.com/" + prefix
		if name == prefix+"-plain" {
			resource = ""
		}
		n.Define("shop", name, list, resource)
	}
}

// A network of a resource gets a device of the pod: containers in their
// order, in each the devices in the bus's, whatever kubelet's order is; a
// selection may choose another; nobody gets one twice.
func TestDevices(t *testing.T) {
	n := ready(t)
	n.defineDevices("dev")
	const app1, app2, side, other = "0000:3b:02.1", "0000:3b:0a.0", "0000:18:00.0", "0000:af:00.0"
	devices := []kubelettest.Container{
		{Name: "app", Devices: []kubelettest.Device{{Resource: "example.com/dev", ID: app2}, {Resource: "example.com/other", ID: other}, {Resource: "example.com/dev", ID: app1, NUMA: []int64{0, 1}}}},
		{Name: "side", Devices: []kubelettest.Device{{Resource: "example.com/dev", ID: side}}},
	}
	pod := func(name, networks string) *Pod {
		n.Kubelet.SetPod("shop", name, devices...)
		return n.Pod(name, networks)
	}
	for name, test := range map[string]struct {
		networks string
		want     []string
	}{
		"dev-order":     {"dev-a,dev-plain,dev-b,dev-a", []string{"net1 " + app1, "net2 ", "net3 " + app2, "net4 " + side}},
		"dev-container": {`[{"name":"dev-a"},{"name":"dev-b","io.github.multiplexer-cni/device":{"container":"app"}},{"name":"dev-b"}]`, []string{"net1 " + app2, "net2 " + app1, "net3 " + side}},
		"dev-id":        {`[{"name":"dev-a"},{"name":"dev-b","io.github.multiplexer-cni/device":{"id":"` + app1 + `"}}]`, []string{"net1 " + app2, "net2 " + app1}},
		"dev-own":       {`[{"name":"dev-plain","cni-args":{"deviceID":"` + other + `"}}]`, []string{"net1 " + other}},
	} {
		for range 3 { // kubelet's order is another one each time
			p := pod(name, test.networks)
			n.OK("ADD", p)
			n.same(n.given(p), test.want)
			n.OK("DEL", p)
			n.must(os.Remove(n.File("rec/calls.jsonl")))
			n.DeletePod(p)
		}
	}
	for name, test := range map[string]struct {
		networks string
		words    []string
	}{
		"dev-short": {"dev-a,dev-b,dev-a,dev-b", []string{
			"network 4", app1 + ` of container app: taken by network "shop/dev-a"`, app2 + ` of container app: taken by network "shop/dev-b"`, side + " of container side: taken by", "ask for 4",
		}},
		"dev-theirs": {`[{"name":"dev-plain","cni-args":{"deviceID":"0000:00:1f.6"}}]`, []string{"0000:00:1f.6", "none of the pod's 4"}},
		"dev-twice":  {`[{"name":"dev-plain","cni-args":{"deviceID":"` + side + `"}},{"name":"dev-a","io.github.multiplexer-cni/device":{"id":"` + side + `"}}]`, []string{"both ask for device", side}},
	} {
		p := pod(name, test.networks)
		n.Refused(n.Run("ADD", p), 7, test.words...)
		n.eventually(p, "Warning AttachmentFailed 1 ", test.words[0])
		n.same(n.given(p), []string(nil))
	}
	// One ledger: the cluster network and the default networks take theirs from it.
	n.Define("kube-system", "dev-all", n.With(n.List("dev-all", "10.54.0.0/24"), "capabilities", obj{"deviceID": true}), "example.com/dev")
	n.Config = obj{"defaultNetworks": []string{"dev-all"}}
	n.lastWordKnows("dev-all")
	p := pod("dev-ledger", "dev-a")
	p.Annotations["v1.multus-cni.io/default-network"] = "shop/dev-b"
	n.OK("ADD", p)
	n.same(n.given(p), []string{"eth0 " + app1, "net1 " + app2, "net2 " + side})
	n.OK("DEL", p)
	p.Annotations["k8s.v1.cni.cncf.io/networks"] = "dev-a,dev-a"
	n.Refused(n.Run("ADD", p), 7, `taken by network "shop/dev-b" (annotation v1.multus-cni.io/default-network)`, `taken by network "kube-system/dev-all" (defaultNetworks[0])`)
}

// lastWordKnows waits until the agent knows a network of the plugin's
// configuration, which a first pod tells it.
func (n *Node) lastWordKnows(name string) {
	n.Helper()
	p := n.NewPod("shop", "word-"+name, "")
	n.Until("the agent knows "+name, func() (bool, string) {
		out := n.Run("ADD", p)
		n.OK("DEL", p)
		raw, err := os.ReadFile(n.File("state/cluster.json"))
		return strings.Contains(string(raw), name) && err == nil, string(out.Stdout)
	})
}

// Without kubelet's word pods with devices wait, soon and by name; others
// start; and when kubelet is back they start too.
func TestDevicesWithoutKubelet(t *testing.T) {
	n := ready(t)
	n.defineDevices("kub")
	device := kubelettest.Container{Name: "app", Devices: []kubelettest.Device{{Resource: "example.com/kub", ID: "0000:3b:02.1"}}}
	n.Kubelet.SetPod("shop", "kub", device)
	p, other, unknown := n.Pod("kub", "kub-a"), n.Pod("kub-other", "kub-plain"), n.Pod("kub-unknown", "kub-a")
	works := func(after string) {
		t.Helper()
		n.Until("pods start after "+after, func() (bool, string) {
			out := n.soon("ADD", p)
			return out.Error() == nil, out.String()
		})
		n.OK("DEL", p)
	}
	waits := func(words ...string) {
		t.Helper()
		for range 2 {
			n.Refused(n.soon("ADD", p), 11, words...)
		}
		n.OK("ADD", other)
		n.OK("DEL", other)
	}
	works("the beginning")
	n.Refused(n.soon("ADD", unknown), 11, "does not know pod shop/kub-unknown")
	n.must(n.Kubelet.Stop())
	waits("kubelet")
	n.must(n.Kubelet.Restart())
	works("a restart")
	n.Kubelet.Freeze()
	waits("kubelet")
	n.Kubelet.Thaw()
	works("a hang")
}

// What a device plugin says of a device is the pod's to see while it has it.
func TestDeviceInfo(t *testing.T) {
	n := ready(t)
	const resource, dir = "e2e.example.com/info", "/var/run/k8s.cni.cncf.io/devinfo"
	id := filepath.Base(n.Dir) // unique on this machine: the directory is not the node's own
	info := obj{"type": "pci", "version": "1.1.0", "pci": obj{"pci-address": id, "representor-device": "eth7"}}
	raw, err := json.Marshal(info)
	n.must(err)
	file := filepath.Join(dir, "dp", "e2e.example.com-info-"+id+"-device.json")
	n.must(os.MkdirAll(filepath.Dir(file), 0o755))
	n.must(os.WriteFile(file, raw, 0o644))
	t.Cleanup(func() { n.must(os.Remove(file)) })

	n.Define("shop", "info-a", n.List("info-a", "10.51.0.0/24"), resource)
	n.Define("shop", "info-b", n.With(n.List("info-b", "10.52.0.0/24"), "capabilities", obj{"CNIDeviceInfoFile": true}), resource)
	n.Define("shop", "info-c", n.With(n.List("info-c", "10.53.0.0/24"), "capabilities", obj{"CNIDeviceInfoFile": true}), "")
	for _, networks := range []string{"info-a", "info-b,info-c"} {
		p := n.NewPod("shop", "info-"+id, networks)
		p.Container = "c-" + id
		n.Kubelet.SetPod("shop", p.Name, kubelettest.Container{Name: "app", Devices: []kubelettest.Device{{Resource: resource, ID: id}}})
		n.CreatePod(p)
		n.OK("ADD", p)
		ours := func() []string {
			found, globErr := filepath.Glob(filepath.Join(dir, "cni", p.Container+"@*"))
			n.must(globErr)
			return found
		}
		n.same(len(ours()), 1) // nobody wrote info-c's
		if status := n.Shown(p); len(status) < 2 || !cmp.Equal(status[1]["device-info"], any(info)) || status[0]["device-info"] != nil {
			t.Errorf("network-status: %v", status)
		}
		told := map[string]string{}
		for _, c := range n.Calls("ADD") {
			if capabilities, ok := n.conf(c)["runtimeConfig"].(obj); ok {
				told[c.Name], _ = capabilities["CNIDeviceInfoFile"].(string)
			}
		}
		if networks != "info-a" {
			n.same(told["info-b"], ours()[0])
			n.same(told["info-c"] != "" && told["info-c"] != told["info-b"], true)
		}
		n.OK("DEL", p)
		n.same(ours(), []string(nil))
		n.DeletePod(p)
	}
	if _, err = os.Stat(file); err != nil {
		t.Errorf("the device plugin's own file: %v", err)
	}
}
