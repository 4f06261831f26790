package multiplexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// check is CHECK: each delegate's own, and the kernel compared with what the
// journal says ADD returned.
func (c *call) check(ctx context.Context) error {
	entry, err := c.store.Open(ctx, c.args.ContainerID)
	if errors.Is(err, journal.ErrAbsent) {
		return c.checkAbsent(ctx)
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	switch {
	case !entry.Usable():
		return network.IO.Errorf("the journal of container %s in %s is damaged: delete the pod, so that it is started anew", c.args.ContainerID, c.config.StateDir)
	case entry.Hides():
		return network.IO.Errorf("a plan line of the journal of container %s in %s is damaged, so what it has is not known: delete the pod, so that it is started anew", c.args.ContainerID, c.config.StateDir)
	case entry.Releasing != "":
		return network.Missing.Errorf("the container's networks are being released (%s)", entry.Releasing)
	case !entry.Complete:
		return network.Missing.Errorf("the container's ADD did not finish")
	}
	pod, err := routing.OpenPod(c.args.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	rules, err := readRouted(entry)
	if err != nil {
		return err
	}
	var failed []error
	for i := range entry.Records {
		if entry.Records[i].Step == journal.Deleted {
			continue // taken away by order, while the pod goes on
		}
		failed = append(failed, c.checkRecord(ctx, pod, entry, rules, i))
	}
	if rules.plan != nil {
		failed = append(failed, pod.Compare(rules.checked(entry)))
	}
	return errors.Join(failed...)
}

func (c *call) checkRecord(ctx context.Context, pod *routing.Pod, entry *journal.Entry, rules routed, i int) error {
	record := &entry.Records[i]
	prev, err := rules.prevResult(i, record)
	if err != nil {
		return err
	}
	err = c.runner.Check(ctx, &record.Attachment, delegate.Request{
		ContainerID: c.args.ContainerID, Netns: c.args.Netns, State: entry.State(i), PrevResult: prev,
	})
	if err != nil || record.DisableCheck {
		return err
	}
	result, err := delegate.Decode(record.Result)
	if err != nil {
		return err
	}
	wanted := network.Part{IfName: record.IfName, Result: result}.Indexed(c.args.Netns)
	wanted.Routes = rules.result(i, result).Routes // as the plugin named them
	if err = pod.Verify(wanted); err != nil {
		return fmt.Errorf("check %s: %w", &record.Attachment, err)
	}
	return nil
}

// checkCluster passes the CHECK of a container from before the installation
// on to the cluster network.
func (c *call) checkCluster(ctx context.Context) error {
	if c.config.PrevResult == nil {
		return network.Unknown.Errorf("container %s was not added by multiplexer, and the runtime sent no prevResult to check it by", c.args.ContainerID)
	}
	attachment, err := c.planner.Cluster(ctx, plan.Pod{}, c.cniArgs, c.args.IfName)
	if err != nil {
		return err
	}
	return c.runner.Check(ctx, attachment, delegate.Request{
		ContainerID: c.args.ContainerID, Netns: c.args.Netns, PrevResult: replayed(&attachment.List, c.config.PrevResult),
	})
}
