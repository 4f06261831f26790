package agent

import (
	"net/netip"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// facts are what every pod of the node goes by: the ranges that leave by the
// cluster network (docs/routing.md, R4) and the runtime.
func (a *Agent) facts() agentapi.Facts {
	known := a.cluster.Facts()
	ranges := slices.Concat(a.Ranges, known.PodCIDRs, known.ServiceCIDRs)
	for _, address := range known.Addresses {
		ranges = append(ranges, netip.PrefixFrom(address, address.BitLen()))
	}
	slices.SortFunc(ranges, func(x, y netip.Prefix) int { return x.Compare(y) })
	return agentapi.Facts{Ranges: slices.Compact(ranges), Runtime: known.Runtime}
}
