package deploytest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// runHelm runs helm with nothing of the user's, and returns what it said.
func runHelm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	home := t.TempDir()
	var out, errOut bytes.Buffer
	// A cleanup runs it too, when the test's own context has ended.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), helm, args...)
	cmd.Env = []string{"HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_DATA_HOME=" + home}
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// object is what all kinds have, and the parts of workloads.
type object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Data              map[string]string `json:"data"`
	Spec              struct {
		Template corev1.PodTemplateSpec `json:"template"`
	} `json:"spec"`

	raw map[string]any
}

func (o *object) container(t *testing.T, name string) corev1.Container {
	t.Helper()
	for _, c := range append(o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers...) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s has no container %s", o.Name, name)
	return corev1.Container{}
}

// render returns the objects that the chart makes of values, YAML.
func render(t *testing.T, values string, flags ...string) []*object {
	t.Helper()
	out, errOut, err := template(t, values, flags...)
	if err != nil {
		t.Fatalf("helm template: %v: %s", err, errOut)
	}
	return parse(t, out)
}

func template(t *testing.T, values string, flags ...string) (stdout, stderr string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err = os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return runHelm(t, append([]string{"template", "multiplexer", chart, "--namespace", "kube-system", "--values", file}, flags...)...)
}

func parse(t *testing.T, documents string) []*object {
	t.Helper()
	var objects []*object
	for document := range strings.SplitSeq("\n"+documents, "\n---\n") {
		o := &object{}
		content, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if string(content) == "null" {
			continue
		}
		if err = json.Unmarshal(content, &o.raw); err == nil {
			err = json.Unmarshal(content, o)
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		objects = append(objects, o)
	}
	return objects
}

// find returns the object of a kind and name, nil where there is none.
func find(objects []*object, kind, name string) *object {
	for _, o := range objects {
		if o.Kind == kind && o.Name == name {
			return o
		}
	}
	return nil
}

func mustFind(t *testing.T, objects []*object, kind, name string) *object {
	t.Helper()
	o := find(objects, kind, name)
	if o == nil {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return o
}

// workloads are the objects that have pods.
func workloads(objects []*object) []*object {
	var all []*object
	for _, o := range objects {
		if len(o.Spec.Template.Spec.Containers) > 0 {
			all = append(all, o)
		}
	}
	return all
}
