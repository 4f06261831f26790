package sriovkube

import (
	"fmt"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// runtime starts containerd.
func (n *node) runtime() error {
	plugin, err := nettest.BinaryPath()
	if err != nil {
		return err
	}
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return err
	}
	config := fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = %q
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = %q
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%q, %q]
  conf_dir = "/etc/cni/net.d"
`, criSocket, nodetest.Image, filepath.Join(n.site.cluster.Binaries(), "runc"), filepath.Dir(plugin), plugins)
	const path = "/etc/containerd/config.toml"
	if err = n.machine.Write(guest.File{Path: path, Content: []byte(config), Mode: 0o600}); err != nil {
		return err
	}
	return n.daemon("containerd", filepath.Join(n.site.cluster.Binaries(), "containerd"), "--config", path)
}

// runtimeAnswers returns when it does.
func (n *node) runtimeAnswers() error {
	_, err := n.sh("tries=0; until [ -S " + criSocket + " ]; do tries=$((tries + 1)); [ $tries -lt 2000 ]; sleep 0.1; done")
	return err
}

func (n *node) importImage() error {
	_, err := n.machine.Output(n.ctr(), "-n", "k8s.io", "images", "import", "--local", n.site.cluster.ImageArchive())
	return err
}

// ctr is containerd's own client.
func (n *node) ctr() string { return filepath.Join(n.site.cluster.Binaries(), "ctr") }

// daemon starts a program with what all of them have in their environment.
func (n *node) daemon(args ...string) error {
	return n.machine.Launch(guest.Daemon{Name: args[0], Command: guest.Command{Args: args[1:], Env: []string{
		"PATH=" + n.site.cluster.Binaries() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOGC=1000", // memory is there, time is what an emulated machine has least of
	}}})
}

// kubeletConfig is that of a node which has no iptables and whose disk is memory.
func kubeletConfig() obj {
	return obj{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication":           obj{"anonymous": obj{"enabled": false}, "webhook": obj{"enabled": false}},
		"authorization":            obj{"mode": "AlwaysAllow"},
		"cgroupDriver":             "cgroupfs",
		"failSwapOn":               false,
		"containerRuntimeEndpoint": "unix://" + criSocket,
		"resolvConf":               "",
		"makeIPTablesUtilChains":   false,
		"evictionHard": obj{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"nodeStatusUpdateFrequency": "2s",
		"syncFrequency":             "10s",
	}
}

// kubelet starts it.
func (n *node) kubelet() error {
	return n.daemon("kubelet", filepath.Join(n.site.cluster.Binaries(), "kubelet"), "--kubeconfig=/etc/kubernetes/kubeconfig", "--config=/etc/kubernetes/kubelet.json",
		"--hostname-override="+n.name, "--node-ip="+n.machine.Options.Address(), "--root-dir=/var/lib/kubelet", "--v=2")
}

// agent starts the agent, which may have been stopped before.
func (n *node) agent() error {
	binary, err := nettest.AgentPath()
	if err != nil {
		return err
	}
	return n.daemon("multiplexerd", binary, "run", "--node-name", n.name, "--kubeconfig", agentKubeconfig,
		"--device-config", deviceConfig, "--resource-prefix", "example.com", "--sweep", "2s", "--log-level", "debug")
}
