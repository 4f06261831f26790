package k8sclient

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The agent changes two things of the cluster, and reads little.
func TestRights(t *testing.T) {
	content, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules int
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var object struct {
			Kind  string
			Rules []struct{ APIGroups, Resources, Verbs, ResourceNames, NonResourceURLs []string }
		}
		if err = yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains([]string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}, object.Kind) {
			t.Errorf("a %s", object.Kind)
		}
		for _, rule := range object.Rules {
			rules++
			if strings.Contains(fmt.Sprint(rule), "*") || len(rule.NonResourceURLs) > 0 || len(rule.Resources) != 1 || len(rule.APIGroups) != 1 {
				t.Errorf("too wide: %+v", rule)
			}
			writes := map[string][]string{"pods/status": {"patch"}, "events": {"create", "list", "patch"}}
			allowed, writing := writes[rule.Resources[0]]
			if !writing {
				allowed = []string{"get", "list", "watch"}
			}
			for _, verb := range rule.Verbs {
				if !slices.Contains(allowed, verb) {
					t.Errorf("%s: %s", rule.Resources[0], verb)
				}
			}
			known := []string{resourceDefinitions, resourcePods, "pods/status", resourceNamespaces, resourceNodes, resourceServiceCIDRs, resourceEvents}
			if !slices.Contains(known, rule.Resources[0]) {
				t.Errorf("who needs %s?", rule.Resources[0])
			}
		}
	}
	if rules != 7 {
		t.Errorf("%d rules, want 7, each with a comment", rules)
	}
}
