package nodetest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// StaticPods is where kubelet looks for pods that are the node's own.
const StaticPods = "/etc/kubernetes/manifests"

func setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	return nil
}

// containerdConfig takes the image, the file of the OCI spec and the path of
// runc.
const containerdConfig = `version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE nobody may lower it, as kubelet asks for.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = %q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = %q
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
`

func (n *Node) containerd() *Process {
	return n.process("containerd", filepath.Join(n.cluster.binaries, "containerd"), "--config", n.disk("containerd.toml"))
}

func (n *Node) writeContainerdConfig() error {
	if err := n.writeRuntimeSpec(); err != nil {
		return err
	}
	content := fmt.Sprintf(containerdConfig, Image, n.disk("runtime-spec.json"), filepath.Join(n.cluster.binaries, "runc"))
	if err := os.WriteFile(n.disk("containerd.toml"), []byte(content), 0o644); err != nil {
		return fmt.Errorf("configure containerd: %w", err)
	}
	return nil
}

// importImage waits until containerd answers, and gives it the image.
func (n *Node) importImage() error {
	ctr := filepath.Join(n.cluster.binaries, "ctr")
	err := kubetest.Poll(patience, func() (bool, error) {
		if !n.Containerd.Running() {
			return true, fmt.Errorf("containerd ended: %s", n.Containerd.tail(0))
		}
		_, err := n.Output(ctr, "--connect-timeout", "1s", "--namespace", "k8s.io", "images", "import", n.cluster.dir.File("image.tar"))
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	return nil
}

func (n *Node) kubelet() *Process {
	return n.process("kubelet", filepath.Join(n.cluster.binaries, "kubelet"),
		"--kubeconfig="+n.disk("kubelet.kubeconfig"),
		"--config="+n.disk("kubelet.json"),
		"--hostname-override="+n.Name,
		"--node-ip="+n.IP.String()+","+n.IP6.String(),
		"--v=2",
	)
}

// writeKubeletFiles writes kubelet's configuration and identity.
func (n *Node) writeKubeletFiles() error {
	cred, err := n.cluster.User("system:node:"+n.Name, "system:nodes")
	if err != nil {
		return err
	}
	if _, err = n.kubeconfig("kubelet.kubeconfig", cred); err != nil {
		return err
	}
	content, err := json.Marshal(n.kubeletConfig())
	if err != nil {
		return fmt.Errorf("encode kubelet's configuration: %w", err)
	}
	if err = os.WriteFile(n.disk("kubelet.json"), content, 0o644); err != nil {
		return fmt.Errorf("configure kubelet: %w", err)
	}
	return nil
}

func (n *Node) kubeletConfig() map[string]any {
	none := map[string]string{}
	for _, signal := range []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"} {
		none[signal] = "0%" // this machine's disk is not the node's
	}
	return map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}},
		"authorization":            map[string]any{"mode": "AlwaysAllow"},
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + n.cgroup(),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"resolvConf":               "",
		"staticPodPath":            StaticPods,
		"evictionHard":             none,
		// Nothing can be pulled again.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		// Metrics without a certificate, for WaitRuntime.
		"readOnlyPort": 10255,
		// What changes is told soon.
		"nodeStatusUpdateFrequency": "1s",
		"nodeStatusReportFrequency": "1s",
	}
}

// WaitRuntime returns when kubelet has got an answer of containerd that is
// newer than this call. Before that, kubelet would fail to start a pod, and
// try again after 10 s.
func (n *Node) WaitRuntime() error {
	began := time.Now()
	client := n.httpClient()
	defer client.CloseIdleConnections()
	err := kubetest.Poll(patience, func() (bool, error) {
		if !n.Kubelet.Running() {
			return true, fmt.Errorf("kubelet ended: %s", n.Kubelet.tail(0))
		}
		answer, err := client.Get("http://127.0.0.1:10255/metrics")
		if err != nil {
			return false, err
		}
		defer func() { _ = answer.Body.Close() }()
		metrics, err := io.ReadAll(answer.Body)
		if err != nil {
			return false, err
		}
		seen, err := strconv.ParseFloat(metric(metrics, "kubelet_pleg_last_seen_seconds"), 64)
		if err != nil {
			return false, fmt.Errorf("read kubelet's metrics: %w", err)
		}
		// Whole seconds.
		last := time.Unix(int64(seen), 0)
		if !last.After(began) {
			return false, fmt.Errorf("kubelet last saw the containers at %s", last)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the runtime of %s: %w", n.Name, err)
	}
	return nil
}

func metric(metrics []byte, name string) string {
	for line := range strings.Lines(string(metrics)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
