package multiplexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// del is DEL: what the journal says, else what today's configuration says.
func (c *call) del(ctx context.Context) error {
	entry, err := c.store.Open(ctx, c.args.ContainerID)
	if errors.Is(err, journal.ErrAbsent) {
		return c.delCluster(ctx)
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if !entry.Usable() {
		return c.delUnrecorded(ctx, entry)
	}
	return c.release(ctx, entry, "DEL", c.args.Netns)
}

// delCluster detaches a container that has no journal from the cluster
// network: one that was started before multiplexer was installed. A node
// without a cluster network has nothing to detach from.
func (c *call) delCluster(ctx context.Context) error {
	attachment, err := c.planner.Cluster(ctx, plan.Pod{}, c.cniArgs, c.args.IfName)
	if errors.Is(err, plan.ErrNoCluster) {
		c.log.Warn("the container has no journal and the node no cluster network: nothing to detach")
		return nil
	}
	if err != nil {
		return err
	}
	request := c.unrecorded()
	request.PrevResult = c.config.PrevResult
	return c.runner.Del(ctx, attachment, request)
}

func (c *call) unrecorded() delegate.Request {
	return delegate.Request{ContainerID: c.args.ContainerID, Netns: c.args.Netns}
}

// delUnrecorded detaches a container whose journal does not say what was
// attached: a power loss left the file empty, or the disk damaged it. What
// the configuration and the annotations say today is the best that is left.
func (c *call) delUnrecorded(ctx context.Context, entry *journal.Entry) error {
	c.log.Warn("the container's journal is empty or damaged: detaching what its annotations ask for today", "lines", entry.Damaged)
	var failed []error
	if pod, err := c.pod(); err == nil {
		secondaries, perr := c.planner.Secondaries(ctx, pod, c.cniArgs, []string{c.args.IfName})
		if perr != nil {
			c.log.Warn("the pod's networks cannot be resolved: their addresses may stay allocated", "error", perr.Error())
		}
		for i := range secondaries {
			failed = append(failed, c.runner.Del(ctx, &secondaries[len(secondaries)-1-i], c.unrecorded()))
		}
	}
	failed = append(failed, c.delCluster(ctx))
	if err := errors.Join(failed...); err != nil {
		return network.IO.Errorf("the journal of container %s in %s is damaged, and what today's configuration says cannot be detached: %w", c.args.ContainerID, c.config.StateDir, err)
	}
	if err := entry.Remove(); err != nil {
		return fmt.Errorf("end the damaged journal: %w", err)
	}
	return nil
}
