package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// ranges are what leaves every pod by the cluster network: by the
// configuration, by the agent's last word, and by what the pods that run got.
// Single addresses, the node's own, are left out.
func (s *sight) ranges() []netip.Prefix {
	all := slices.Clone(s.config.ClusterCIDRs)
	if s.word != nil {
		all = append(all, s.word.Ranges...)
	}
	for i := range s.containers {
		c := s.containers[i].contents
		var plan routing.Plan
		if c != nil && c.Routing != nil && json.Unmarshal(c.Routing, &plan) == nil {
			all = append(all, plan.Ranges...)
		}
	}
	all = slices.DeleteFunc(all, netip.Prefix.IsSingleIP)
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(all)
}

// anyWider reports whether a range has another in it: the cluster's pods, with
// the node's slice in them.
func anyWider(ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(a netip.Prefix) bool {
		return slices.ContainsFunc(ranges, func(b netip.Prefix) bool { return a != b && a.Bits() < b.Bits() && a.Contains(b.Addr()) })
	})
}

func words(ranges []netip.Prefix) string {
	var out []string
	for _, r := range ranges {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}
