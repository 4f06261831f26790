package multiplexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// container is what a DEL is about, where no journal says it.
type container struct {
	id, ifname, netns string
}

// del is DEL: what the journal says, else what today's configuration says.
func (c *call) del(ctx context.Context) error {
	own := container{c.args.ContainerID, c.args.IfName, c.args.Netns}
	entry, err := c.store.Open(ctx, own.id)
	if errors.Is(err, journal.ErrAbsent) {
		return c.delAbsent(ctx, own)
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if !entry.Usable() {
		return c.delUnrecorded(ctx, entry, own)
	}
	return c.delRecorded(ctx, entry, own)
}

// delRecorded releases what the journal says, if it is about this interface.
func (c *call) delRecorded(ctx context.Context, entry *journal.Entry, own container) error {
	if !c.isOurs(entry) {
		c.log.Info("another interface of the container has networks: nothing of this one is left", "has", entry.Header.IfName)
		return nil
	}
	return c.release(ctx, entry, "DEL", own.netns)
}

// delAbsent detaches a container without a journal from the cluster network:
// it may be from before the installation. An empty journal is its lock
// meanwhile, so that an ADD for it waits.
func (c *call) delAbsent(ctx context.Context, own container) error {
	entry, err := c.store.Create(ctx, own.id)
	if errors.Is(err, network.IO) {
		c.log.Warn("detaching without a lock", "error", err.Error())
		if left := c.inherit(ctx, own); left != nil && len(left.Attachments) > 0 {
			return c.delUnjournaled(ctx, left)
		}
		return c.delCluster(ctx, own, delegate.Request{})
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if entry.Usable() { // an ADD was faster
		return c.delRecorded(ctx, entry, own)
	}
	left := c.inherit(ctx, own)
	if adopted, relErr := c.delAdopted(ctx, entry, left, "DEL"); adopted {
		return relErr
	}
	if left != nil { // Multus attached it, and its record is of no use
		return errors.Join(c.delInherited(ctx, entry, own), c.delAsToday(ctx, entry, own))
	}
	err = errors.Join(c.delInherited(ctx, entry, own), c.delGuarded(ctx, entry, own))
	// Nothing is recorded: there is nothing to keep for a later try.
	return errors.Join(err, entry.Remove())
}

// delInherited detaches what another program attached, one from before the
// installation whose records an embedded plugin reads.
func (c *call) delInherited(ctx context.Context, entry *journal.Entry, own container) error {
	var failed []error
	for _, heir := range c.heirs() {
		left, err := heir.Left(own.id)
		failed = append(failed, err)
		for i := range slices.Backward(left) {
			failed = append(failed, c.delLeft(ctx, entry, own, &left[i]))
		}
	}
	return errors.Join(failed...)
}

// heirs are the embedded plugins that can undo another program's work.
func (c *call) heirs() (heirs []network.Heir) {
	for _, name := range slices.Sorted(maps.Keys(c.runner.Embedded)) {
		if heir, ok := c.runner.Embedded[name].(network.Heir); ok {
			heirs = append(heirs, heir)
		}
	}
	return heirs
}

func (c *call) delLeft(ctx context.Context, entry *journal.Entry, own container, a *network.Attachment) error {
	guard, err := entry.Guard()
	if err != nil {
		return err
	}
	defer guard.Close()
	a.Args = c.cniArgs
	c.log.Info("detaching what another program attached", "network", a.Name, "interface", a.IfName, "record", a.Source)
	return c.runner.Del(ctx, a, delegate.Request{ContainerID: own.id, Netns: own.netns, Guard: guard})
}

// delGuarded runs the cluster network's DEL where a killed call can find it.
func (c *call) delGuarded(ctx context.Context, entry *journal.Entry, own container) error {
	guard, err := entry.Guard()
	if err != nil {
		return err
	}
	defer guard.Close()
	return c.delCluster(ctx, own, delegate.Request{Guard: guard})
}

// delCluster detaches a container from the cluster network of today's
// configuration. A node without one has nothing to detach from.
func (c *call) delCluster(ctx context.Context, own container, request delegate.Request) error {
	attachment, err := c.planner.Cluster(ctx, plan.Pod{}, c.cniArgs, own.ifname)
	if errors.Is(err, plan.ErrNoCluster) {
		c.log.Warn("the container has no journal and the node no cluster network: nothing to detach")
		return nil
	}
	if err != nil {
		return err
	}
	request.ContainerID, request.Netns, request.PrevResult = own.id, own.netns, replayed(&attachment.List, c.config.PrevResult)
	return c.runner.Del(ctx, attachment, request)
}

// delUnrecorded detaches a container whose journal does not say what was
// attached: a power loss left the file empty, or the disk damaged it; or a call
// was killed that had just created it.
func (c *call) delUnrecorded(ctx context.Context, entry *journal.Entry, own container) error {
	left := c.inherit(ctx, own)
	if adopted, err := c.delAdopted(ctx, entry, left, "DEL"); adopted {
		return err
	}
	c.log.Warn("the container's journal is empty or damaged: detaching what its annotations ask for today", "lines", entry.Damaged)
	return c.delAsToday(ctx, entry, own)
}

// delAsToday detaches what the configuration and the annotations say today:
// the best that is left where nobody knows what was attached.
func (c *call) delAsToday(ctx context.Context, entry *journal.Entry, own container) error {
	var failed []error
	if pod, err := c.pod(); err == nil {
		if err = c.complete(ctx, &pod); err != nil {
			c.log.Warn("what the pod asks for is not known", "error", err.Error())
		}
		secondaries, planErr := c.planner.Secondaries(ctx, pod, c.cniArgs, []string{own.ifname})
		if planErr != nil {
			c.log.Warn("the pod's networks cannot be resolved: their addresses may stay allocated", "error", planErr.Error())
		}
		failed = append(failed, c.nameDeviceInfo(secondaries))
		for i := range slices.Backward(secondaries) {
			failed = append(failed, c.runner.Del(ctx, &secondaries[i], delegate.Request{ContainerID: own.id, Netns: own.netns}), c.dropDeviceInfo(&secondaries[i]))
		}
	}
	failed = append(failed, c.delGuarded(ctx, entry, own))
	if err := errors.Join(failed...); err != nil {
		return network.IO.Errorf("what was attached to container %s is recorded neither in %s nor, readably, by Multus in %s, and what today's configuration says cannot be detached: %w", own.id, c.config.StateDir, c.config.CNIDir, err)
	}
	if err := entry.Remove(); err != nil {
		return fmt.Errorf("end the journal: %w", err)
	}
	return nil
}
