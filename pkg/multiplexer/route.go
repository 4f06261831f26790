package multiplexer

import (
	"encoding/json"
	"fmt"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// watch begins the routing rules for a pod that is about to get more
// networks. Without them (routing.mode plain) it returns nil.
func (c *call) watch(entry *journal.Entry) (*routing.Guard, error) {
	if c.config.Routing.Mode == network.RoutingPlain {
		return nil, nil
	}
	return routing.Begin(c.args.Netns, func(plan *routing.Plan) error {
		raw, err := json.Marshal(plan)
		if err != nil {
			return fmt.Errorf("encode the plan: %w", err)
		}
		return entry.SetRouting(raw)
	})
}

// route lets every NIC carry what it should, and shows in the results what
// that left of their routes. parts begin with the cluster network's.
func (c *call) route(guard *routing.Guard, entry *journal.Entry, parts []network.Part) error {
	if guard == nil {
		return nil
	}
	networks := make([]routing.Network, len(parts))
	for i, part := range parts {
		networks[i] = routing.Network{Attachment: c.attachment(entry, i), Result: part.Indexed(c.args.Netns)}
	}
	ranges := slices.Concat(c.config.ClusterCIDRs, c.agent.facts().Ranges)
	plan, err := guard.Finish(routing.Input{Networks: networks, Ranges: ranges, Strict: c.config.Routing.Strict})
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		c.log.Warn(w, "pod", entry.Header.Pod)
	}
	for i := range parts {
		if shown := plan.Shown(i, networks[i].Result); shown != networks[i].Result {
			parts[i].Result = shown
		}
	}
	return nil
}

// attachment returns the journal's attachment of part i. In a chain behind
// another plugin, the cluster network is not ours and not in the journal.
func (c *call) attachment(entry *journal.Entry, i int) *network.Attachment {
	if !entry.Header.Chained {
		return &entry.Records[i].Attachment
	}
	if i == 0 {
		return &network.Attachment{List: network.List{Name: c.config.Name}, IfName: c.args.IfName, Cluster: true}
	}
	return &entry.Records[i-1].Attachment
}

// routed is what the routing rules left of a container: nothing to say when
// they did not apply to it.
type routed struct {
	plan    *routing.Plan
	chained bool
}

func readRouted(entry *journal.Entry) (routed, error) {
	r := routed{chained: entry.Header.Chained}
	if entry.Routing == nil {
		return r, nil
	}
	if err := json.Unmarshal(entry.Routing, &r.plan); err != nil || r.plan == nil {
		return r, network.IO.Errorf("the journal's routing plan is damaged: delete the pod, so that it is started anew (%w)", err)
	}
	return r, nil
}

// result is record i's, with the routes as the rules left them.
func (r routed) result(i int, in *current.Result) *current.Result {
	if r.plan == nil {
		return in
	}
	return r.plan.Left(r.index(i), in)
}

// index is the attachment of record i as the plan counts.
func (r routed) index(i int) int {
	if r.chained {
		return i + 1
	}
	return i
}

// prevResult is what record i's CHECK gets: the bytes of its ADD, unless the
// rules changed its routes.
func (r routed) prevResult(i int, record *journal.Record) (json.RawMessage, error) {
	raw := prevResult(record)
	if raw == nil || r.plan == nil {
		return raw, nil
	}
	result, err := delegate.Decode(raw)
	if err != nil {
		return nil, err
	}
	left := r.plan.ForCheck(r.index(i), result)
	if left == result {
		return raw, nil
	}
	old, err := left.GetAsVersion(record.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("result of %s: %w", &record.Attachment, err)
	}
	return json.Marshal(old)
}

// checked is the plan less what is about networks that want no CHECK.
func (r routed) checked(entry *journal.Entry) *routing.Plan {
	plan := r.plan
	for i := range entry.Records {
		if entry.Records[i].DisableCheck {
			plan = plan.Without(r.index(i))
		}
	}
	return plan
}

// unroute takes the rules away again, if the namespace is still there.
func (c *call) unroute(entry *journal.Entry, netns string) error {
	if netns == "" || entry.Routing == nil {
		return nil
	}
	r, err := readRouted(entry)
	if err != nil {
		c.log.Warn("the rules are removed, but eth0's default route and sysctls stay as they are", "error", err.Error())
		r.plan = &routing.Plan{}
	}
	return routing.Undo(netns, r.plan)
}
