package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// askFirst gives the pod a first container that asks the API server for the
// pod's network-status, and fails without one.
func askFirst(pod *corev1.Pod) {
	yes := true
	pod.Spec.AutomountServiceAccountToken = &yes
	first := nodetest.NewContainer("first")
	first.Args = []string{"ask"}
	for name, field := range map[string]string{"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"} {
		first.Env = append(first.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}})
	}
	pod.Spec.InitContainers = []corev1.Container{first}
}

// grantAsk lets the namespace's pods read their objects.
func (s *scenario) grantAsk() {
	s.Helper()
	s.must(cluster.Apply(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: %[1]s, name: ask}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: %[1]s, name: ask}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ask}
subjects: [{kind: ServiceAccount, namespace: %[1]s, name: default}]
`, s.namespace)))
	s.must(cluster.WaitAllowed(kubetest.Access{
		User: "system:serviceaccount:" + s.namespace + ":default", Verb: "get", Resource: "pods", Namespace: s.namespace,
	}))
}

// The first container of a pod, an init container, finds network-status on the
// pod's object, unless the API server did not take it in time.
func networkStatusFirst(t *testing.T) {
	s := begin(t, "first")
	s.grantAsk()
	var pods []*corev1.Pod
	for i := range 6 {
		pod := server("first", fmt.Sprintf("asks-%d", i), fast)
		askFirst(pod)
		s.creates(nodes[i%2], pod)
		pods = append(pods, pod)
	}
	for _, pod := range pods {
		l := s.ready(pod.Name)
		first := l.Status.InitContainerStatuses[0]
		if first.RestartCount != 0 && !s.slowAPI(l) || first.State.Terminated == nil || first.State.Terminated.ExitCode != 0 {
			s.Errorf("the first container of %s: restarted %d times, %+v", l.Name, first.RestartCount, first.State)
		}
		lines, err := l.node.Log(l.Pod, "first")
		s.must(err)
		if said := s.published()[l.Name]; said.IsZero() || !said.Before(lines[0].Time) && !s.slowAPI(l) {
			s.Errorf("network-status of %s came at %s, its first container spoke at %s", l.Name, said, lines[0].Time)
		}
	}
}

// published is when the API server had the network-status of each of the
// namespace's pods, by name.
func (s *scenario) published() map[string]time.Time {
	s.Helper()
	when := map[string]time.Time{}
	for _, entry := range cluster.RequireAuditLog(s.T, nodetest.AgentAccount) {
		if entry.Verb == "patch" && entry.Resource == "pods" && entry.Subresource == "status" && entry.Code == http.StatusOK &&
			entry.Namespace == s.namespace && when[entry.Name].IsZero() {
			when[entry.Name] = entry.Answered
		}
	}
	return when
}
