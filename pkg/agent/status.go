package agent

import (
	"encoding/json"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// attached is what a complete journal says of the pod's networks, with the
// routes as the routing rules left them, and what those warned of.
func attached(c *journal.Contents) ([]network.Attached, []string, error) {
	var plan *routing.Plan // nil = the rules did not apply
	if c.Routing != nil {
		plan = &routing.Plan{}
		if err := json.Unmarshal(c.Routing, plan); err != nil {
			return nil, nil, fmt.Errorf("read the routing plan: %w", err)
		}
	}
	var out []network.Attached
	before := 0 // how many come before the records, as the plan counts
	if c.Header.Chained {
		before = 1
		cluster := network.Attachment{List: network.List{Name: c.Header.Network}, Reference: c.Header.Network, IfName: c.Header.IfName, Cluster: true}
		one, err := shown(plan, 0, &cluster, c.Header.PrevResult, c.Header.Netns)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, one)
	}
	for i := range c.Records {
		record := &c.Records[i]
		if record.Step == journal.Deleted {
			continue // taken away by order, while the pod goes on
		}
		one, err := shown(plan, before+i, &record.Attachment, record.Result, c.Header.Netns)
		if err != nil {
			return nil, nil, err
		}
		one.Device = record.Device
		out = append(out, one)
	}
	if plan == nil {
		return out, nil, nil
	}
	return out, plan.Warnings, nil
}

func shown(plan *routing.Plan, i int, a *network.Attachment, raw json.RawMessage, netns string) (network.Attached, error) {
	out := network.Attached{Attachment: a}
	if raw == nil {
		return out, nil
	}
	result, err := delegate.Decode(raw)
	if err != nil {
		return out, fmt.Errorf("result of %s: %w", a, err)
	}
	out.Result = network.Part{IfName: a.IfName, Result: result}.Indexed(netns)
	if plan != nil {
		out.Result = plan.Shown(i, out.Result)
	}
	return out, nil
}
