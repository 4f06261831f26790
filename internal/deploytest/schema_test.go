package deploytest

import (
	"strings"
	"testing"
)

// What is wrong is refused before anything reaches a cluster, and named.
func TestWrongValuesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, values string
		says         []string
	}{
		{"a key that is misspelt", "cni: {confdir: /a}", []string{"/cni", "confdir"}},
		{"a key at the top", "devicesPlugin: {}", []string{"devicesPlugin"}},
		{"a relative directory", "cni: {confDir: etc/cni}", []string{"/cni/confDir", "etc/cni"}},
		{"a directory with a space", "kubeletDir: /var/lib/my kubelet", []string{"/kubeletDir"}},
		{"the root as a directory", "netnsDir: /", []string{"/netnsDir"}},
		{"a way up", "cni: {binDir: /opt/../etc}", []string{"/cni/binDir"}},
		{"a platform", "platform: k4s", []string{"/platform", "k3s"}},
		{"a runtime", "cni: {runtime: docker}", []string{"/cni/runtime", "containerd", "cri-o"}},
		{"an option that install writes", "cni: {options: {clusterConfDir: /a}}", []string{"/cni/options/clusterConfDir"}},
		{"an option's type", "cni: {options: {namespaceIsolation: 'no'}}", []string{"namespaceIsolation", "boolean"}},
		{"no agent's socket", "cni: {options: {agentSocket: ''}}", []string{"agentSocket"}},
		{"memory without a unit", "resources: {memory: 128}", []string{"/resources/memory"}},
		{"memory in G", "resources: {memory: 1G}", []string{"/resources/memory"}},
		{"limits apart from requests", "resources: {limits: {cpu: 1}}", []string{"/resources", "limits"}},
		{"a range", "agent: {clusterCIDRs: [10.0.0.0]}", []string{"/agent/clusterCIDRs/0"}},
		{"publish", "agent: {publish: some}", []string{"/agent/publish", "multi"}},
		{"an argument that is no flag", "agent: {extraArgs: [sweep=1s]}", []string{"/agent/extraArgs/0"}},
		{"a port", "metrics: {port: 70000}", []string{"/metrics/port", "65,535"}},
		{"a host with its port", "metrics: {host: '127.0.0.1:9745'}", []string{"/metrics/host"}},
		{"a digest", "image: {digest: abc}", []string{"/image/digest"}},
		{"all capabilities", "extraCapabilities: [ALL]", []string{"/extraCapabilities/0"}},
		{"a capability by the kernel's name", "extraCapabilities: [CAP_NET_ADMIN]", []string{"/extraCapabilities/0"}},
		{"no node at once", "maxUnavailable: 0", []string{"/maxUnavailable"}},
		{"PFs without the right", "devicePlugin: {config: {resourceList: [], pfs: []}}", []string{"devicePlugin.provisioning", "pfs"}},
		{"two files of devices", "devicePlugin: {config: {resourceList: []}, configMap: mine}", []string{"mine", "keep one"}},
		{"PFs without devices", "devicePlugin: {enabled: false, provisioning: true}", []string{"devicePlugin.enabled"}},
		{"a monitor of loopback", "metrics: {podMonitor: true}", []string{"metrics.host", "0.0.0.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, said, err := template(t, c.values)
			if err == nil {
				t.Fatalf("it was rendered: %.200s", out)
			}
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("want %q in: %s", want, said)
				}
			}
		})
	}
}

func TestLint(t *testing.T) {
	if out, errOut, err := runHelm(t, "lint", "--strict", chart); err != nil || strings.Contains(out+errOut, "[WARNING]") {
		t.Errorf("helm lint: %v\n%s%s", err, out, errOut)
	}
}
