package nodetest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// Watch shows, when the test has failed, what each program of the cluster
// logged while it ran.
func (c *Cluster) Watch(tb testing.TB) {
	tb.Helper()
	began := map[*Process]int64{}
	for _, p := range c.processes() {
		began[p] = p.logSize()
	}
	tb.Cleanup(func() {
		if !tb.Failed() {
			return
		}
		for _, p := range c.processes() {
			tb.Logf("== the log of %s ends with\n%s", p.name, p.tail(began[p]))
		}
	})
}

// Start starts a cluster that the end of the test removes, see [New].
func Start(tb testing.TB, apiFlags ...string) *Cluster {
	tb.Helper()
	c, err := New(apiFlags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if closeErr := c.Close(); closeErr != nil {
			tb.Errorf("remove cluster: %v", closeErr)
		}
	})
	c.Watch(tb)
	return c
}

// WaitAgentRights returns when the API server knows the agent's rights, a
// moment after deploy/rbac.yaml was applied.
func (c *Cluster) WaitAgentRights() error {
	for _, access := range []kubetest.Access{
		{User: AgentAccount, Verb: "watch", Group: "k8s.cni.cncf.io", Resource: "network-attachment-definitions"},
		{User: AgentAccount, Verb: "patch", Resource: "events"},
	} {
		if err := c.WaitAllowed(access); err != nil {
			return err
		}
	}
	return nil
}
