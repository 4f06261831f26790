package agenttest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// docs/security.md lists the rights of deploy/rbac.yaml, each with a reason.
func TestRightsAreDocumented(t *testing.T) {
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z/-]+)`(?: \\(([a-z0-9.]+)\\))? \\| ([a-z, ]+) \\| [^|]+ \\|$")
	for _, r := range row.FindAllStringSubmatch(section(t, "../../docs/security.md", "## Rights at the API server"), -1) {
		documented[r[2]+"/"+r[1]] = r[3]
	}
	granted := map[string]string{}
	for document := range strings.SplitSeq(file(t, "../../deploy/rbac.yaml"), "\n---\n") {
		var role struct {
			Rules []struct{ APIGroups, Resources, Verbs []string }
		}
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			granted[rule.APIGroups[0]+"/"+rule.Resources[0]] = strings.Join(rule.Verbs, ", ")
		}
	}
	if diff := cmp.Diff(granted, documented); diff != "" {
		t.Errorf("rights (-deploy/rbac.yaml +docs/security.md):\n%s", diff)
	}
}

// docs/agent.md lists the agent's metrics, with their types and labels. Those
// of VFs and of the device plugin, which this node lacks, their rooms compare.
func TestMetricsAreDocumented(t *testing.T) {
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(multiplexer_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*)\\| [^|]+ \\|$")
	for _, r := range row.FindAllStringSubmatch(section(t, "../../docs/agent.md", "## Health and metrics"), -1) {
		labels := strings.Split(strings.NewReplacer("`", "", " ", "").Replace(r[3]), ",")
		slices.Sort(labels)
		documented[r[1]] = r[2] + " " + strings.Join(labels, ",")
	}
	n := New(t, cluster)
	n.Define("shop", "docs-a", n.List("docs-a", "10.50.0.0/24"), "")
	n.StartAgent()
	n.WaitReady()
	p := n.Pod("docs-web", "docs-a")
	n.OK("ADD", p)
	n.Until("the journal is counted", func() (bool, string) {
		return n.Metric(`multiplexer_attachments{network="shop/docs-a"}`) == "1", n.Metric("multiplexer_leftovers")
	})
	_, body := n.Get("/metrics")
	ofVFs := func(name, _ string) bool {
		return strings.HasPrefix(name, "multiplexer_vf") || strings.HasPrefix(name, "multiplexer_device_plugin")
	}
	told := metricsOf(body)
	maps.DeleteFunc(told, ofVFs)
	maps.DeleteFunc(documented, ofVFs)
	if diff := cmp.Diff(told, documented); diff != "" {
		t.Errorf("metrics (-/metrics +docs/agent.md):\n%s", diff)
	}
	n.OK("DEL", p)
}

// metricsOf returns our metrics, each with its type and its labels.
func metricsOf(body string) map[string]string {
	kinds, labels := map[string]string{}, map[string]map[string]bool{}
	sample := regexp.MustCompile(`^(multiplexer_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	for line := range strings.Lines(body) {
		if kind := strings.Fields(line); len(kind) == 4 && kind[1] == "TYPE" && strings.HasPrefix(kind[2], "multiplexer_") {
			kinds[kind[2]], labels[kind[2]] = kind[3], map[string]bool{}
			continue
		}
		of := sample.FindStringSubmatch(line)
		if of == nil || labels[of[1]] == nil {
			continue
		}
		for _, pair := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(of[2], -1) {
			if pair[1] != "le" {
				labels[of[1]][pair[1]] = true
			}
		}
	}
	out := map[string]string{}
	for name, kind := range kinds {
		out[name] = kind + " " + strings.Join(slices.Sorted(maps.Keys(labels[name])), ",")
	}
	return out
}

func file(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// section returns a page from a heading to the next of that level.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(file(t, path), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no %q", path, heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}
