package deploytest

import (
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// What no choice of values gives away. Each exception is a row of docs/deploy.md.
func TestNoPodHasMoreThanItNeeds(t *testing.T) {
	for _, c := range choices() {
		t.Run(c.name, func(t *testing.T) {
			objects := render(t, c.values)
			for _, o := range workloads(objects) {
				pod := o.Spec.Template.Spec
				checkPod(t, o.Kind+" "+o.Name, pod)
				for _, container := range append(pod.InitContainers, pod.Containers...) {
					checkContainer(t, o.Name+"/"+container.Name, container)
				}
			}
		})
	}
}

func checkPod(t *testing.T, name string, pod corev1.PodSpec) {
	t.Helper()
	if pod.HostPID || pod.HostIPC || !pod.HostNetwork || pod.HostUsers != nil {
		t.Errorf("%s: hostPID %v, hostIPC %v, hostNetwork %v", name, pod.HostPID, pod.HostIPC, pod.HostNetwork)
	}
	if pod.SecurityContext == nil || pod.SecurityContext.SeccompProfile == nil || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: seccomp is not the runtime's", name)
	}
	if pod.PriorityClassName != "system-node-critical" {
		t.Errorf("%s: priority class %q", name, pod.PriorityClassName)
	}
	// Whose socket or directory is as good as root on the node, or has secrets.
	never := []string{"/", "/etc", "/proc", "/root", "/home", "/var", "/run", "/var/run", "/var/lib", "/var/lib/kubelet", "/etc/kubernetes", "/run/containerd", "/run/crio", "/etc/containerd", "/var/lib/cni"}
	for _, v := range pod.Volumes {
		switch {
		case v.HostPath == nil && v.ConfigMap == nil:
			t.Errorf("%s: volume %s is neither a directory of the node nor a ConfigMap", name, v.Name)
		case v.HostPath != nil && slices.Contains(never, path.Clean(v.HostPath.Path)):
			t.Errorf("%s: it mounts the node's %s", name, v.HostPath.Path)
		case v.HostPath != nil && (v.HostPath.Type == nil || !strings.HasPrefix(string(*v.HostPath.Type), "Directory")):
			t.Errorf("%s: %s is no directory", name, v.HostPath.Path)
		}
	}
}

func checkContainer(t *testing.T, name string, c corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if s == nil || s.Privileged == nil || *s.Privileged || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		t.Errorf("%s: privileged, escalation or a root that is writable: %+v", name, s)
		return
	}
	if s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("%s: capabilities %+v", name, s.Capabilities)
	}
	if s.SeccompProfile != nil || s.SELinuxOptions != nil {
		t.Errorf("%s: it has another profile than the pod", name)
	}
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := c.Resources.Requests[resource], c.Resources.Limits[resource]
		if request.IsZero() || request.Cmp(limit) != 0 {
			t.Errorf("%s: %s: request %s, limit %s", name, resource, &request, &limit)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.FieldRef == nil {
			t.Errorf("%s: $%s is of a Secret or ConfigMap", name, e.Name)
		}
	}
}

// writable are the mounts that a container may write.
func writable(c corev1.Container) []string {
	var paths []string
	for _, m := range c.VolumeMounts {
		if !m.ReadOnly {
			paths = append(paths, m.MountPath)
		}
	}
	slices.Sort(paths)
	return paths
}

func TestWhatTheAgentMay(t *testing.T) {
	plain := []string{
		"/etc/cni/net.d", "/opt/cni/bin", "/run/multiplexer", "/var/lib/cni/multiplexer", "/var/lib/kubelet/device-plugins",
		"/var/lib/kubelet/plugins_registry", "/var/run/k8s.cni.cncf.io/devinfo",
	}
	for _, c := range []struct {
		name, values string
		writes       []string
		capabilities []corev1.Capability
		selinux      string
		apparmor     bool // confined
	}{
		{"defaults", "", plain, nil, "spc_t", true},
		{"without devices", "devicePlugin: {enabled: false}", plain[:4], nil, "spc_t", true},
		{"with CDI", "devicePlugin: {cdiDir: /var/run/cdi}", append(slices.Clone(plain[:6]), "/var/run/cdi", plain[6]), nil, "spc_t", true},
		{"provisioning", "devicePlugin: {provisioning: true}", append(slices.Clone(plain[:2]), "/run/multiplexer", "/run/udev/rules.d", "/sys", plain[3], plain[4], plain[5], plain[6]), []corev1.Capability{"NET_ADMIN"}, "spc_t", false},
		{"Kubespray", "extraCapabilities: [DAC_OVERRIDE]", plain, []corev1.Capability{"DAC_OVERRIDE"}, "spc_t", true},
		{"another SELinux type", "seLinuxType: ''", plain, nil, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := mustFind(t, render(t, c.values), "DaemonSet", "multiplexer")
			agent, pod := o.container(t, "agent"), o.Spec.Template.Spec
			if got := writable(agent); !slices.Equal(got, c.writes) {
				t.Errorf("it writes %q, want %q", got, c.writes)
			}
			if got := agent.SecurityContext.Capabilities.Add; !slices.Equal(got, c.capabilities) {
				t.Errorf("capabilities %q, want %q", got, c.capabilities)
			}
			got := ""
			if pod.SecurityContext.SELinuxOptions != nil {
				got = pod.SecurityContext.SELinuxOptions.Type
			}
			if got != c.selinux {
				t.Errorf("SELinux type %q, want %q", got, c.selinux)
			}
			if confined := pod.SecurityContext.AppArmorProfile == nil; confined != c.apparmor {
				t.Errorf("AppArmor: %+v", pod.SecurityContext.AppArmorProfile)
			}
		})
	}
}

func TestNamespacesAreSeenAsTheyCome(t *testing.T) {
	objects := render(t, "netnsDir: /var/run/netns")
	for name, container := range map[string]string{"multiplexer": "agent", "multiplexer-uninstall": "uninstall"} {
		seen := false
		for _, m := range mustFind(t, objects, "DaemonSet", name).container(t, container).VolumeMounts {
			ours := m.MountPath == "/var/run/netns"
			seen = seen || ours
			if m.MountPropagation != nil != ours || ours && (*m.MountPropagation != corev1.MountPropagationHostToContainer || !m.ReadOnly) {
				t.Errorf("%s: %s: propagation %v, read-only %v", name, m.MountPath, m.MountPropagation, m.ReadOnly)
			}
		}
		if !seen {
			t.Errorf("%s does not see the namespaces", name)
		}
	}
}

// Uninstall waits for what Multus attached: it reads the records of Multus
// where the plugin would, and writes none.
func TestUninstallSeesTheRecordsOfMultus(t *testing.T) {
	for values, want := range map[string]string{"": network.MultusRecords, "cni: {options: {cniDir: /data/multus}}": "/data/multus"} {
		o := mustFind(t, render(t, values), "DaemonSet", "multiplexer-uninstall")
		c := o.container(t, "uninstall")
		i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == want })
		if i < 0 || !c.VolumeMounts[i].ReadOnly {
			t.Errorf("%q: want %s read-only among %+v", values, want, c.VolumeMounts)
			continue
		}
		for _, v := range o.Spec.Template.Spec.Volumes {
			if v.Name == c.VolumeMounts[i].Name && (v.HostPath == nil || v.HostPath.Path != want || *v.HostPath.Type != corev1.HostPathDirectoryOrCreate) {
				t.Errorf("%q: %+v", values, v)
			}
		}
		if got, want := writable(c), []string{"/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni/multiplexer"}; !slices.Equal(got, want) {
			t.Errorf("uninstall writes %q, want %q", got, want)
		}
	}
}

// The agent is started wherever pods are, and is asked only whether it lives:
// an API server that is away restarts nobody.
func TestProbesAndPlacement(t *testing.T) {
	for _, c := range []struct{ name, values, host string }{
		{"defaults", "", "127.0.0.1"}, {"for all", "metrics: {host: 0.0.0.0, port: 9000}", ""}, {"IPv6", "metrics: {host: '[::1]'}", "[::1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := mustFind(t, render(t, c.values), "DaemonSet", "multiplexer")
			agent, pod := o.container(t, "agent"), o.Spec.Template.Spec
			for probe, at := range map[*corev1.Probe]string{agent.StartupProbe: "/healthz", agent.LivenessProbe: "/healthz", agent.ReadinessProbe: "/readyz"} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != at || probe.HTTPGet.Host != c.host {
					t.Errorf("%s: %+v", at, probe)
				}
			}
			if !slices.Equal(pod.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}) || pod.NodeSelector["kubernetes.io/os"] != "linux" {
				t.Errorf("tolerations %+v, nodes %v", pod.Tolerations, pod.NodeSelector)
			}
		})
	}
}
