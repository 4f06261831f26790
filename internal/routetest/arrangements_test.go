package routetest

import "testing"

// arrangement is how the networks of a pod share its traffic.
type arrangement struct {
	name     string
	networks string
	v4, v6   string // NICs that carry the defaults
}

// carrier is the NIC with the default of the family.
func (a arrangement) carrier(f family) string { return pair{a.v4, a.v6}.of(f) }

// arrangements are those that the rest of the tests try: the cluster network
// keeps the defaults, or the first attachment takes them.
func arrangements(w *world) []arrangement {
	four := "eth0"
	if !w.shape.has(v4) {
		four = "net1"
	}
	return []arrangement{
		{"default on the cluster network", "red-default, blue-default", four, "eth0"},
		{"default moved", moved(w.red.gateway().all(), "red-default", "blue-default"), "net1", "net1"},
	}
}

// overArrangements runs a test with a pod for each arrangement and shape.
func overArrangements(t *testing.T, test func(t *testing.T, p *pod, a arrangement)) {
	t.Helper()
	overShapes(t, func(t *testing.T, w *world) {
		for _, a := range arrangements(w) {
			t.Run(a.name, func(t *testing.T) {
				p := w.attach(t, a.networks)
				p.show(t)
				test(t, p, a)
			})
		}
	})
}
