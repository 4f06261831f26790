package doctor

import (
	"context"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
)

// Rights are what the agent asks the API server for, and explain in its pod:
// the rules of deploy/rbac.yaml.
func Rights() []k8sclient.Right {
	var out []k8sclient.Right
	for _, rule := range []struct {
		group, resource, subresource string
		verbs                        []string
	}{
		{"k8s.cni.cncf.io", "network-attachment-definitions", "", []string{"get", "list", "watch"}},
		{"", "pods", "", []string{"get", "list", "watch"}},
		{"", "pods", "status", []string{"patch"}},
		{"", "namespaces", "", []string{"list", "watch"}},
		{"", "nodes", "", []string{"list", "watch"}},
		{"networking.k8s.io", "servicecidrs", "", []string{"list", "watch"}},
		{"", "events", "", []string{"create", "list", "patch"}},
	} {
		for _, verb := range rule.verbs {
			out = append(out, k8sclient.Right{Group: rule.group, Resource: rule.resource, Subresource: rule.subresource, Verb: verb})
		}
	}
	return out
}

// checkRights asks the API server for each right. They are those of whoever
// this tool runs as: in the agent's pod, the agent's.
func (s *sight) checkRights(ctx context.Context) []Finding {
	if s.Cluster == nil {
		return []Finding{na("%s", s.WithoutCluster)}
	}
	var lacking []string
	for _, right := range Rights() {
		may, err := s.Cluster.May(ctx, right)
		if err != nil {
			return []Finding{fail("see that the API server can be reached from here, and that the credentials are valid", "%s", err)}
		}
		if !may {
			lacking = append(lacking, right.String())
		}
	}
	if len(lacking) > 0 {
		return []Finding{fail("apply deploy/rbac.yaml of this version", "the API server does not allow: %s", strings.Join(lacking, ", "))}
	}
	return []Finding{ok("all %d of deploy/rbac.yaml", len(Rights()))}
}
