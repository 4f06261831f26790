package multiplexer

import (
	"context"
	"errors"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// statusBudget bounds STATUS: runtimes hold a lock across it.
const statusBudget = 5 * time.Second

// status is STATUS. Code 50 makes the node NotReady for all pods, so only
// what every pod needs counts: the cluster network and the default networks.
func (c *call) status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusBudget)
	defer cancel()
	if err := c.readyNow(); err != nil {
		return types.NewError(codeNotAvailable, err.Error(), "")
	}
	if err := c.statusOfCluster(ctx); err != nil {
		return err
	}
	if c.agent != nil && !c.agent.lastWord().Knows(c.agent.references()) {
		return nil // nothing is known of the default networks: that is the agent's trouble
	}
	defaults, err := c.planner.DefaultNetworks(ctx)
	if err != nil {
		return types.NewError(codeNotAvailable, err.Error(), "")
	}
	for i := range defaults {
		defaults[i].IfName = "every pod"
		if err = c.runner.Status(ctx, &defaults[i]); err != nil {
			return err
		}
	}
	return nil
}

// statusOfCluster asks the cluster network. One that stands before us in our
// own list is asked by the runtime itself.
func (c *call) statusOfCluster(ctx context.Context) error {
	cluster, err := c.planner.NodeCluster(ctx)
	switch {
	case errors.Is(err, plan.ErrChained):
		return nil
	case errors.Is(err, errNotAsked):
		// A definition that the agent was not asked for yet: only an ADD asks,
		// and a node that is not ready gets none.
		return nil
	case errors.Is(err, network.Again):
		return types.NewError(codeNotAvailable, err.Error(), "")
	case err != nil:
		return err
	}
	cluster.Cluster, cluster.IfName = true, "every pod"
	return c.runner.Status(ctx, cluster)
}
