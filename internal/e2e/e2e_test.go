package e2e

import "testing"

// TestE2E runs the scenarios beside each other, and then what looks at a whole
// node, or at who was first.
func TestE2E(t *testing.T) {
	cluster.Watch(t)
	t.Run("beside each other", func(t *testing.T) {
		for _, scenario := range []struct {
			name string
			run  func(*testing.T)
		}{
			{"plain pods", plainPods},
			{"two networks", twoNetworks},
			{"default route", defaultRoute},
			{"static pod", staticPod},
			{"stateful set", statefulSet},
			{"host port", hostPorts},
			{"dual stack", dualStack},
		} {
			t.Run(scenario.name, func(t *testing.T) {
				t.Parallel()
				scenario.run(t)
			})
		}
	})
	t.Run("network status first", networkStatusFirst)
	t.Run("forty pods at once", fortyPods)
	t.Run("leave", leave) // the last one: there is no multiplexer afterwards
}
