package agent

import (
	"net/netip"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// facts are what every pod of the node goes by: the ranges that leave by the
// cluster network (docs/routing.md, R4) and the runtime. Until the cluster
// told them, they are those of the agent before us; a pod that got none would
// keep its traffic on the wrong NIC for its life.
func (a *Agent) facts() (agentapi.Facts, error) {
	if err := a.cluster.Synced(); err != nil {
		if a.word.facts == nil {
			return agentapi.Facts{}, network.Again.Errorf("the cluster's ranges are not known yet: %w", err)
		}
		return *a.word.facts, nil
	}
	known := a.cluster.Facts()
	ranges := slices.Concat(a.Ranges, known.PodCIDRs, known.ServiceCIDRs)
	for _, address := range known.Addresses {
		ranges = append(ranges, netip.PrefixFrom(address, address.BitLen()))
	}
	slices.SortFunc(ranges, func(x, y netip.Prefix) int { return x.Compare(y) })
	return agentapi.Facts{Ranges: slices.Compact(ranges), Runtime: known.Runtime}, nil
}
