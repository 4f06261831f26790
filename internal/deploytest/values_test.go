package deploytest

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// choice is a set of values that somebody may have.
type choice struct {
	name, values string
}

// choices are what every rule is tried with.
func choices() []choice {
	return []choice{
		{"defaults", ""},
		{"k3s", "platform: k3s\ncni: {runtime: containerd}"},
		{"own directories", "cni: {confDir: /a/net.d, binDir: /a/bin, runtime: cri-o, takeOver: true}\nkubeletDir: /var/lib/k0s/kubelet\nnetnsDir: /var/run/netns"},
		{"options", "cni: {options: {namespaceIsolation: false, routing: {mode: plain}, stateDir: /data/mx, cniDir: /data/multus, agentSocket: /run/mx/a.sock, clusterNetwork: /etc/kubernetes/cni/net.d/10-ovn.conf}}"},
		{"cluster network in the runtime's directory", "cni: {options: {clusterNetwork: /etc/cni/net.d/10-flannel.conflist}}"},
		{"networks by file", "cni: {options: {confDir: /data/nets}}"},
		{"networks by file in the runtime's directory", "cni: {options: {confDir: /etc/cni/net.d/files}}"},
		{"networks by file with the cluster network", "cni: {options: {confDir: /data/nets, clusterNetwork: /data/nets}}"},
		{"devices", "devicePlugin: {config: {resourceList: [{resourceName: fast, selectors: {vendors: ['8086']}}]}, cdiDir: /var/run/cdi}"},
		{"own ConfigMap", "devicePlugin: {configMap: cards, resourcePrefix: example.com}"},
		{"provisioning", "devicePlugin: {provisioning: true, config: {resourceList: [], pfs: [{name: ens1f0, numVFs: 4}]}}"},
		{"no devices", "devicePlugin: {enabled: false}\nuninstall: {hook: false}"},
		{"uninstall by force", "uninstall: {force: true, restore: true}"},
		{"metrics for all", "metrics: {host: 0.0.0.0, port: 9999, podMonitor: true}"},
		{"metrics on IPv6", "metrics: {host: '[::1]'}"},
		{"image by digest", "image: {digest: 'sha256:" + strings.Repeat("ab", 32) + "', pullSecrets: [mine]}"},
		{"everything else", `
resources: {cpu: 1, memory: 1Gi}
maxUnavailable: 3
seLinuxType: ""
extraCapabilities: [DAC_OVERRIDE]
nodeSelector: {multi: "yes"}
tolerations: []
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
podAnnotations: {a/b: c}
podLabels: {team: net}
agent: {publish: all, events: none, namespaceDefaults: false, clusterCIDRs: [10.244.0.0/16, "fd00::/48"], logLevel: debug, logFormat: json, extraArgs: [--sweep=10s]}
`},
	}
}

// The API server takes all that the chart makes, and knows every field of it.
func TestAPIServerTakesEveryChoice(t *testing.T) {
	for _, c := range choices() {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range render(t, c.values) {
				if o.Kind == "PodMonitor" { // the Prometheus operator's
					continue
				}
				path := pathOf(t, o) + "?dryRun=All&fieldValidation=Strict"
				answer, err := cluster.Do(http.MethodPost, path, o.raw)
				if err == nil {
					err = answer.Err()
				}
				if err != nil {
					t.Errorf("%s %s: %v", o.Kind, o.Name, err)
				}
			}
		})
	}
}

func pathOf(t *testing.T, o *object) string {
	t.Helper()
	in := "/namespaces/" + o.Namespace
	paths := map[string]string{
		"ServiceAccount":     "/api/v1" + in + "/serviceaccounts",
		"ConfigMap":          "/api/v1" + in + "/configmaps",
		"DaemonSet":          "/apis/apps/v1" + in + "/daemonsets",
		"Job":                "/apis/batch/v1" + in + "/jobs",
		"Role":               "/apis/rbac.authorization.k8s.io/v1" + in + "/roles",
		"RoleBinding":        "/apis/rbac.authorization.k8s.io/v1" + in + "/rolebindings",
		"ClusterRole":        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
		"ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	}
	path, known := paths[o.Kind]
	if !known {
		t.Fatalf("who needs a %s?", o.Kind)
	}
	if !strings.HasPrefix(o.Kind, "Cluster") && o.Namespace != "kube-system" {
		t.Errorf("%s %s is in namespace %q", o.Kind, o.Name, o.Namespace)
	}
	return path
}

// Every mount has its volume, every volume is mounted, and a directory of the
// node has the same name inside, so that paths in logs and files are right.
func TestVolumesAreMountedWhereTheNodeHasThem(t *testing.T) {
	elsewhere := map[string]string{"/dev": "/host/dev"}
	for _, c := range choices() {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range workloads(render(t, c.values)) {
				mounted := map[string]string{}
				pod := o.Spec.Template.Spec
				for _, container := range append(pod.InitContainers, pod.Containers...) {
					for _, m := range container.VolumeMounts {
						mounted[m.Name] = m.MountPath
						if m.SubPath != "" || m.SubPathExpr != "" {
							t.Errorf("%s: %s: a subPath does not follow changes", o.Name, m.Name)
						}
					}
				}
				for _, v := range pod.Volumes {
					at, found := mounted[v.Name]
					if !found {
						t.Errorf("%s: volume %s is not mounted", o.Name, v.Name)
					}
					if v.HostPath == nil {
						continue
					}
					want := v.HostPath.Path
					if other, moved := elsewhere[want]; moved {
						want = other
					}
					if at != want {
						t.Errorf("%s: the node's %s is at %s, want %s", o.Name, v.HostPath.Path, at, want)
					}
				}
			}
		})
	}
}

// The flags of the pods are flags of the programs, and both sides mean the
// same directories.
func TestFlagsAreTheProgramsOwn(t *testing.T) {
	known := map[string][]string{}
	for _, verb := range []string{"run", "uninstall", "pause", "await"} {
		known[verb] = flagsOf(t, verb)
	}
	for _, c := range choices() {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range workloads(render(t, c.values)) {
				pod := o.Spec.Template.Spec
				for _, container := range append(pod.InitContainers, pod.Containers...) {
					if len(container.Command) < 2 || container.Command[0] != "/usr/bin/multiplexerd" {
						t.Fatalf("%s runs %q", container.Name, container.Command)
					}
					flags, verb := known[container.Command[1]], container.Command[1]
					if flags == nil {
						t.Fatalf("multiplexerd has no command %q", verb)
					}
					checkFlags(t, container, flags)
				}
			}
		})
	}
}

func checkFlags(t *testing.T, container corev1.Container, known []string) {
	t.Helper()
	for _, arg := range container.Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !slices.Contains(known, name) {
			t.Errorf("%s: multiplexerd %s has no flag --%s", container.Name, container.Command[1], name)
		}
		if !strings.HasSuffix(name, "-dir") || value == "" {
			continue
		}
		seen := slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool {
			return value == m.MountPath || strings.HasPrefix(m.MountPath, value+"/")
		})
		if !seen && name != "kubelet-dir" && name != "udev-dir" {
			t.Errorf("%s: --%s=%s: nothing is mounted there", container.Name, name, value)
		}
	}
}

// hidden are the flags that --help does not show.
func hidden() []string { return []string{"network-manager-dir"} }

func flagsOf(t *testing.T, verb string) []string {
	t.Helper()
	binary, err := nettest.AgentPath()
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.CommandContext(t.Context(), binary, verb, "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(help), "multiplexerd "+verb) {
		return nil
	}
	names := hidden()
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(help), -1) {
		names = append(names, m[1])
	}
	return names
}

func TestWhatValuesDo(t *testing.T) {
	agent := func(t *testing.T, values string) (corev1.Container, corev1.PodSpec) {
		t.Helper()
		o := mustFind(t, render(t, values), "DaemonSet", "multiplexer")
		return o.container(t, "agent"), o.Spec.Template.Spec
	}
	for _, c := range []struct {
		name, values string
		args         []string
	}{
		{"defaults", "", []string{"--install=true", "--cni-conf-dir=/etc/cni/net.d", "--cni-bin-dir=/opt/cni/bin", "--state-dir=/var/lib/cni/multiplexer", "--dev-dir=/host/dev"}},
		{"k3s", "platform: k3s", []string{"--cni-conf-dir=/var/lib/rancher/k3s/agent/etc/cni/net.d", "--cni-bin-dir=/var/lib/rancher/k3s/data/cni"}},
		{"k3s with a directory of one's own", "platform: k3s\ncni: {binDir: /b}", []string{"--cni-conf-dir=/var/lib/rancher/k3s/agent/etc/cni/net.d", "--cni-bin-dir=/b"}},
		{"kubelet", "kubeletDir: /k", []string{"--kubelet-dir=/k", "--pod-resources-socket=/k/pod-resources/kubelet.sock"}},
		{"options", "cni: {options: {stateDir: /s, agentSocket: /r/a.sock}}", []string{"--options=/etc/multiplexer/options/options.json", "--state-dir=/s", "--socket=/r/a.sock"}},
		{"ranges", "agent: {clusterCIDRs: [10.0.0.0/8, 'fd00::/48']}", []string{"--cluster-cidrs=10.0.0.0/8,fd00::/48"}},
		{"take over", "cni: {takeOver: true, runtime: cri-o}", []string{"--take-over=true", "--runtime=cri-o"}},
		{"more flags", "agent: {extraArgs: [--sweep=5s]}", []string{"--sweep=5s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			container, _ := agent(t, c.values)
			for _, arg := range c.args {
				if !slices.Contains(container.Args, arg) {
					t.Errorf("want %s in %q", arg, container.Args)
				}
			}
		})
	}
	t.Run("memory", func(t *testing.T) {
		for memory, want := range map[string]string{"128Mi": "115MiB", "1Gi": "921MiB"} {
			container, _ := agent(t, "resources: {memory: "+memory+"}")
			if at := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" }); container.Env[at].Value != want {
				t.Errorf("%s: GOMEMLIMIT=%s, want %s", memory, container.Env[at].Value, want)
			}
		}
	})
	t.Run("options restart the agent and devices do not", func(t *testing.T) {
		annotation := func(values string) string {
			return mustFind(t, render(t, values), "DaemonSet", "multiplexer").Spec.Template.Annotations["io.github.multiplexer-cni/options"]
		}
		one, other := annotation("cni: {options: {namespaceIsolation: true}}"), annotation("cni: {options: {namespaceIsolation: false}}")
		if one == "" || one == other {
			t.Errorf("%q and %q", one, other)
		}
		plain, _ := json.Marshal(mustFind(t, render(t, ""), "DaemonSet", "multiplexer").raw)
		devices, _ := json.Marshal(mustFind(t, render(t, "devicePlugin: {config: {resourceList: []}}"), "DaemonSet", "multiplexer").raw)
		if string(plain) != string(devices) {
			t.Error("a change of the device plugin's file changes the DaemonSet")
		}
	})
	t.Run("files", func(t *testing.T) {
		objects := render(t, "cni: {options: {clusterNetwork: a<b}}\ndevicePlugin: {config: {resourceList: [{resourceName: fast}]}}")
		for name, want := range map[string]string{
			"multiplexer-options/options.json": `{"clusterNetwork":"a<b"}`, "multiplexer-devices/config.json": `{"resourceList":[{"resourceName":"fast"}]}`,
		} {
			object, key, _ := strings.Cut(name, "/")
			var value any
			if err := json.Unmarshal([]byte(mustFind(t, objects, "ConfigMap", object).Data[key]), &value); err != nil {
				t.Fatal(err)
			}
			var wanted any
			if err := json.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			got, _ := json.Marshal(value)
			again, _ := json.Marshal(wanted)
			if string(got) != string(again) {
				t.Errorf("%s: %s, want %s", name, got, again)
			}
		}
	})
}
