package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestManifestsAreGenerated(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "../../tools/manifests.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(made) != 3 {
		t.Fatalf("made %q: %v", made, err)
	}
	for _, path := range made {
		name := filepath.Base(path)
		if diff := cmp.Diff(read(t, filepath.Join(deploy, name)), read(t, path)); diff != "" {
			t.Errorf("deploy/%s is not what the chart makes: run make manifests (-deploy +chart):\n%s", name, diff)
		}
	}
}

// Helm installs the kind where it is missing, changes it nowhere and deletes
// it never: that is what its directory crds is for.
func TestTheKindIsNoPartOfTheRelease(t *testing.T) {
	if diff := cmp.Diff(read(t, filepath.Join(deploy, "network-attachment-definitions.yaml")), read(t, filepath.Join(chart, "crds/network-attachment-definitions.yaml"))); diff != "" {
		t.Errorf("the chart's kind differs, run make manifests (-deploy +chart):\n%s", diff)
	}
	// Nor of the files that `kubectl delete -f` is called with.
	for _, name := range []string{"install.yaml", "uninstall.yaml", "rbac.yaml"} {
		for _, o := range parse(t, read(t, filepath.Join(deploy, name))) {
			if o.Kind == "CustomResourceDefinition" || o.Kind == "Namespace" {
				t.Errorf("%s deletes a %s", name, o.Kind)
			}
		}
	}
}

// The agent's tests run with deploy/rbac.yaml. Whatever the values, it is what
// the agent gets, from the chart and from install.yaml.
func TestRightsAreThoseOfTheTests(t *testing.T) {
	tested := parse(t, read(t, filepath.Join(deploy, "rbac.yaml")))
	if len(tested) != 3 {
		t.Fatalf("%d objects in rbac.yaml", len(tested))
	}
	sources := map[string][]*object{"install.yaml": parse(t, read(t, filepath.Join(deploy, "install.yaml")))}
	for _, c := range choices() {
		sources[c.name] = render(t, c.values)
	}
	for from, objects := range sources {
		for _, want := range tested {
			if diff := cmp.Diff(want.raw, mustFind(t, objects, want.Kind, want.Name).raw); diff != "" {
				t.Errorf("%s: %s differs (-rbac.yaml):\n%s", from, want.Kind, diff)
			}
		}
		agent := mustFind(t, objects, "DaemonSet", "multiplexer").Spec.Template.Spec
		if agent.ServiceAccountName != "multiplexer" {
			t.Errorf("%s: the agent is %q", from, agent.ServiceAccountName)
		}
		for _, o := range objects {
			if role := o.Kind == "ClusterRole" || o.Kind == "Role"; role && o.Name != "multiplexer" && o.Name != "multiplexer-uninstall" {
				t.Errorf("%s: %s %s", from, o.Kind, o.Name)
			}
		}
	}
}

// The other right is of a moment, and is to look at one object.
func TestTheRightToWait(t *testing.T) {
	role := mustFind(t, render(t, ""), "Role", "multiplexer-uninstall")
	want := []any{map[string]any{
		"apiGroups": []any{"apps"}, "resources": []any{"daemonsets"}, "resourceNames": []any{"multiplexer-uninstall"}, "verbs": []any{"get"},
	}}
	if diff := cmp.Diff(want, role.raw["rules"]); diff != "" {
		t.Error(diff)
	}
	if role.Annotations["helm.sh/hook"] != "pre-delete" {
		t.Errorf("it is there besides: %v", role.Annotations)
	}
}

// The nodes are drained while the Job waits: that its own pod is evicted with the
// others counts for nothing.
func TestADrainDoesNotEndTheWait(t *testing.T) {
	job := mustFind(t, render(t, ""), "Job", "multiplexer-uninstall")
	spec, _ := job.raw["spec"].(map[string]any)
	want := map[string]any{"rules": []any{map[string]any{
		"action": "Ignore", "onPodConditions": []any{map[string]any{"type": "DisruptionTarget", "status": "True"}},
	}}}
	if diff := cmp.Diff(want, spec["podFailurePolicy"]); diff != "" {
		t.Error(diff)
	}
	if policy := job.Spec.Template.Spec.RestartPolicy; policy != "Never" {
		t.Errorf("restartPolicy %q: podFailurePolicy wants Never", policy)
	}
}

// A cluster network outside of the runtime's directory is seen by agent and
// uninstall: without ours, nothing would lead to it.
func TestTheClusterNetworkIsSeen(t *testing.T) {
	objects := render(t, "cni: {options: {clusterNetwork: /run/multus/cni/net.d}}")
	for name, container := range map[string]string{"multiplexer": "agent", "multiplexer-uninstall": "uninstall"} {
		mounts := mustFind(t, objects, "DaemonSet", name).container(t, container).VolumeMounts
		if !slices.ContainsFunc(mounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/run/multus/cni/net.d" && m.ReadOnly }) {
			t.Errorf("%s: %+v", name, mounts)
		}
	}
}

// A file that is applied as it is names an image that does not change.
func TestImagesHaveAVersion(t *testing.T) {
	version := regexp.MustCompile(`(?m)^appVersion: (\S+)$`).FindStringSubmatch(read(t, filepath.Join(chart, "Chart.yaml")))[1]
	want := "ghcr.io/multiplexer-cni/multiplexer:" + version
	for _, name := range []string{"install.yaml", "uninstall.yaml"} {
		for _, o := range workloads(parse(t, read(t, filepath.Join(deploy, name)))) {
			for _, c := range append(o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers...) {
				if c.Image != want {
					t.Errorf("%s: %s has image %s, want %s", name, c.Name, c.Image, want)
				}
			}
		}
	}
	digest := "sha256:" + regexp.MustCompile(`.`).ReplaceAllString("0123456789abcdef0123456789abcdef", "ab")
	agent := mustFind(t, render(t, "image: {digest: '"+digest+"', tag: v9, repository: example.com/mx}"), "DaemonSet", "multiplexer").container(t, "agent")
	if agent.Image != "example.com/mx@"+digest {
		t.Errorf("image %s", agent.Image)
	}
}
