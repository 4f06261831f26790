package routing

import (
	"net/netip"
	"strings"
	"testing"
)

// Of networks that overlap the cluster's ranges, the author hears; of
// two on one subnet, or of a default route, not.
func TestOverlaps(t *testing.T) {
	for name, test := range map[string]struct {
		dst, ranges string
		words       string
	}{
		"its own":              {"10.99.0.0/16", "10.96.0.0/12", `(net1) 10.99.0.0/16 overlaps the cluster's 10.96.0.0/12 leaves by eth0 bound to net1`},
		"wider than the range": {"10.0.0.0/8", "10.244.0.0/16", `(net1) 10.0.0.0/8 overlaps the cluster's 10.244.0.0/16 eth0`},
		"the pods'":            {"10.244.1.0/25", "", `(net1) 10.244.1.0/25 overlaps the cluster's 10.244.1.0/24 eth0`},
		"of IPv6":              {"fd00:244:0:1::/96", "", `(net1) fd00:244:0:1::/96 overlaps the cluster's fd00:244:0:1::/64 eth0`},
		"elsewhere":            {"192.168.0.0/16", "10.96.0.0/12", ""},
		"a default route":      {"0.0.0.0/0", "10.96.0.0/12", ""},
		"the node's DNS":       {"169.254.0.0/16", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := pairWorld()
			w.ranges = prefixes(test.ranges)
			w.do(op{kind: opRoute, route: direct("net1", netip.MustParsePrefix(test.dst)), mode: appended})
			plan, err := Decide(w.input())
			if err != nil {
				t.Fatal(err)
			}
			warnings := strings.Join(plan.Warnings, "\n")
			if test.words == "" && warnings != "" {
				t.Errorf("warnings: %s", warnings)
			}
			contains(t, warnings, test.words)
		})
	}
}
