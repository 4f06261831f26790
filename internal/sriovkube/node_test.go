package sriovkube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// The resources that the nodes offer.
const (
	fast = "example.com/fast" // VFs of the first PF
	wide = "example.com/wide" // VFs of the second PF
	dpdk = "example.com/dpdk" // VFs of the second PF on vfio-pci
)

// Where the node's programs find things.
const (
	agentKubeconfig = "/etc/multiplexer/kubeconfig"
	deviceConfig    = "/etc/multiplexer/devices/config.json"
	criSocket       = "/run/containerd/containerd.sock"
	deviceInfoDir   = "/var/run/k8s.cni.cncf.io/devinfo"
)

// node is a guest with kubelet, containerd, the agent and the plugin.
type node struct {
	site    *site
	name    string
	number  int
	machine *guest.Machine
	vfs     [2]int // of each PF, at first
}

func newNode(s *site, number int) *node {
	n := &node{site: s, number: number, name: fmt.Sprintf("node-%d", number)}
	n.vfs = [][2]int{{4, 2}, {2, 0}}[number]
	return n
}

// boot boots the guest, which runs until the test ends.
func (n *node) boot(t *testing.T, o guest.Options, wire string) error {
	o.WorkDir, o.CPUs, o.Number, o.Host = "/", 1, n.number, true
	o.Wire = &guest.Wire{Socket: wire, Listen: n.number == 0}
	o.Stdout, o.Stderr, o.Timeout = os.Stderr, os.Stderr, patience
	var err error
	n.machine, err = guest.Start(t.Context(), o)
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if stopErr := n.machine.Stop(); stopErr != nil {
			t.Error(stopErr)
		}
	})
	n.site.said(t, n.name+": booted")
	return nil
}

// up makes a node of the guest.
func (n *node) up(t *testing.T) error {
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"its network", n.network},
		{"its files", n.configure},
		{"containerd started", n.runtime},
		{"its VFs", n.makeVFs},
		{"containerd answers", n.runtimeAnswers},
		{"kubelet started", n.kubelet},
		{"the agent started", n.agent},
		{"the image", n.importImage},
		{"it is ready", n.ready},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		n.site.said(t, n.name+": "+step.name)
	}
	return nil
}

// ready returns when pods can be scheduled to the node.
func (n *node) ready() error {
	_, err := n.site.cluster.WaitNode(n.name, "is ready", func(found *corev1.Node) (bool, string) {
		for _, c := range found.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status == corev1.ConditionTrue && len(found.Spec.Taints) == 0, fmt.Sprint(c.Message, found.Spec.Taints)
			}
		}
		return false, "no condition"
	})
	return err
}

// sh runs a script that must succeed.
func (n *node) sh(script string) (string, error) {
	return n.machine.Output("sh", "-euc", script)
}

// network joins the node to this machine, whose loopback has the API server.
func (n *node) network() error {
	o := n.machine.Options
	_, err := n.sh(fmt.Sprintf(`for path in /sys/class/net/*; do
		[ "$(cat "$path/address")" != %s ] || nic=${path##*/}
	done
	ip addr add %s/24 dev "$nic"
	ip link set "$nic" up
	ip route add default via %s
	echo 1 >/proc/sys/net/ipv4/ip_forward
	hostname %s`, o.HostMAC(), o.Address(), o.HostAddress(), n.name))
	return err
}

// kubeconfig is one that reaches the cluster from the guest.
func (n *node) kubeconfig(cred kubetest.Credential) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kubeconfig")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "kubeconfig")
	if err = n.site.cluster.Kubeconfig(path, cred); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config obj
	if err = json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	cluster := config["clusters"].([]any)[0].(obj)["cluster"].(obj)
	cluster["server"] = strings.Replace(n.site.cluster.URL(), "127.0.0.1", n.machine.Options.HostAddress(), 1)
	cluster["tls-server-name"] = "127.0.0.1"
	cluster["certificate-authority-data"] = base64.StdEncoding.EncodeToString(n.site.cluster.CA())
	delete(cluster, "certificate-authority")
	return json.Marshal(config)
}

// configure writes every file that the node's programs read.
func (n *node) configure() error {
	user, err := n.site.cluster.User("system:node:"+n.name, "system:nodes")
	if err != nil {
		return err
	}
	kubelet, err := n.kubeconfig(user)
	if err != nil {
		return err
	}
	token, err := n.site.cluster.Token("kube-system", "multiplexer")
	if err != nil {
		return err
	}
	agent, err := n.kubeconfig(kubetest.Credential{Token: token})
	if err != nil {
		return err
	}
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return err
	}
	files := map[string]any{
		"/etc/kubernetes/kubeconfig":   kubelet,
		agentKubeconfig:                agent,
		"/etc/kubernetes/kubelet.json": kubeletConfig(),
		deviceConfig:                   n.devices(),
		"/etc/cni/net.d/00-multiplexer.conflist": obj{"cniVersion": "1.0.0", "cniVersions": []string{"1.0.0", "1.1.0"}, "name": "multiplexer", "plugins": []any{obj{
			"type": "multiplexer", "clusterConfDir": "/etc/cni/net.d", "binDir": plugins, "capabilities": obj{"io.kubernetes.cri.pod-annotations": true},
		}}},
		"/etc/cni/net.d/10-cluster.conflist": obj{"cniVersion": "1.0.0", "name": "cluster", "plugins": []any{obj{
			"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": false,
			"ipam": obj{"type": "host-local", "ranges": []any{[]any{obj{"subnet": fmt.Sprintf("10.244.%d.0/24", n.number)}}}},
		}}},
	}
	for path, content := range files {
		raw, isRaw := content.([]byte)
		if !isRaw {
			if raw, err = json.Marshal(content); err != nil {
				return err
			}
		}
		if err = n.machine.Write(guest.File{Path: path, Content: raw, Mode: 0o600}); err != nil {
			return err
		}
	}
	return nil
}

// devices is the device plugin's configuration.
func (n *node) devices() obj {
	pfs := guest.PFs()
	return obj{"resourceList": []any{
		obj{"resourceName": "fast", "selectors": obj{"drivers": []string{"igbvf"}, "rootDevices": pfs[:1]}},
		obj{"resourceName": "wide", "resourcePrefix": "example.com", "selectors": []any{obj{"vendors": []string{"8086"}, "drivers": []string{"igbvf"}, "rootDevices": pfs[1:]}}},
		obj{"resourceName": "dpdk", "selectors": []any{obj{"drivers": []string{"vfio-pci"}}}},
	}}
}

// makeVFs gives the PFs their VFs.
func (n *node) makeVFs() error {
	for i, pf := range guest.PFs() {
		if err := n.setVFs(pf, n.vfs[i]); err != nil {
			return err
		}
	}
	return nil
}

// bind gives a VF another driver.
func (n *node) bind(vf, driver string) error {
	_, err := n.sh(fmt.Sprintf(`cd /sys/bus/pci
	echo %[1]s >devices/%[1]s/driver/unbind
	echo %[2]s >devices/%[1]s/driver_override
	echo %[1]s >drivers_probe`, vf, driver))
	return err
}

// setVFs changes the number of a PF's VFs, and returns when they have their
// network devices.
func (n *node) setVFs(pf string, count int) error {
	_, err := n.sh(fmt.Sprintf(`cd /sys/bus/pci/devices/%s
	ip link set "$(ls net)" up
	echo %d >sriov_numvfs
	for vf in $(seq 0 $((%d - 1))); do
		tries=0
		until [ -n "$(ls virtfn$vf/net 2>/dev/null)" ]; do
			tries=$((tries + 1))
			[ $tries -lt 1000 ]
			sleep 0.1
		done
	done`, pf, count, count))
	return err
}
