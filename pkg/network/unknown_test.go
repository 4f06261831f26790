package network

import (
	"maps"
	"slices"
	"testing"
)

// A key is known at its own place, and those of others are nobody's slip.
func TestUnknownKeys(t *testing.T) {
	got := UnknownKeys([]byte(`{"clusterCIDR": [], "logLevel": "debug", "kubeconfig": "/k", "args": {}, "cni.dev/x": 1, "mode": "plain",
		"routing": {"mod": "plain", "strict": true}, "timeout": {"Add": "1s"}}`))
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"clusterCIDR", "mode", "routing.mod", "timeout.Add"}) {
		t.Errorf("%q", keys)
	}
	if !slices.Contains(got["clusterCIDR"], "clusterCIDRs") || !slices.Contains(got["routing.mod"], "routing.mode") || slices.Contains(got["mode"], "routing.mode") {
		t.Errorf("%q", got)
	}
	for _, whole := range []string{`[]`, `{`, `null`, `{"routing": "plain"}`} {
		if got = UnknownKeys([]byte(whole)); len(got) > 0 {
			t.Errorf("%s: %q", whole, got)
		}
	}
}
