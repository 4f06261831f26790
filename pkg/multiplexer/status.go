package multiplexer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// statusBudget bounds STATUS: runtimes hold a lock across it.
const statusBudget = 5 * time.Second

// status is STATUS. Code 50 makes the node NotReady for all pods, so only
// what every pod needs counts: the cluster network and the default networks.
func (c *call) status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusBudget)
	defer cancel()
	if file := c.config.ReadinessIndicatorFile; file != "" {
		if _, err := os.Stat(file); err != nil {
			return types.NewError(codeNotAvailable, fmt.Sprintf("readinessindicatorfile %s does not exist: the cluster network is not ready yet", file), "")
		}
	}
	cluster, err := c.planner.NodeCluster(ctx)
	if errors.Is(err, plan.ErrNoCluster) {
		return types.NewError(codeNotAvailable, err.Error(), "")
	}
	if err != nil {
		return err
	}
	cluster.Cluster, cluster.IfName = true, "every pod"
	if err = c.runner.Status(ctx, cluster); err != nil {
		return err
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
