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
		return c.delCluster(ctx, nil, own)
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if entry.Usable() { // an ADD was faster
		return c.delRecorded(ctx, entry, own)
	}
	if err = entry.AwaitOrphan(ctx, orphanPatience); err != nil {
		return err
	}
	left := c.inherit(ctx, own)
	if adopted, relErr := c.delAdopted(ctx, entry, left, "DEL"); adopted {
		return relErr
	}
	if left != nil { // Multus attached it, and its record is of no use
		return errors.Join(c.delInherited(ctx, entry, own), c.delAsToday(ctx, entry, own))
	}
	err = errors.Join(c.delInherited(ctx, entry, own), c.delCluster(ctx, entry, own))
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
	a.Args = c.cniArgs
	c.log.Info("detaching what another program attached", "network", a.Name, "interface", a.IfName, "record", a.Source)
	return c.delGuarded(ctx, entry, own, a)
}

// delGuarded runs a DEL that no journal describes where a killed call can
// find it; entry is nil where there can be no journal.
func (c *call) delGuarded(ctx context.Context, entry *journal.Entry, own container, a *network.Attachment) (err error) {
	request := delegate.Request{ContainerID: own.id, Netns: own.netns}
	if entry != nil {
		guard, guardErr := entry.Guard()
		if guardErr != nil {
			return guardErr
		}
		defer func() {
			_ = guard.Close() // nothing was written
			if ctx.Err() == nil {
				c.note(entry.Unguard()) // no line says that it has ended
			} else if err != nil {
				c.cutShort(ctx, entry)
			}
		}()
		request.Guard = guard
	}
	if a.Cluster {
		request.PrevResult = replayed(&a.List, c.config.PrevResult)
	}
	return c.runner.Del(ctx, a, request)
}

// delCluster detaches a container from the cluster network of today's
// configuration.
func (c *call) delCluster(ctx context.Context, entry *journal.Entry, own container) error {
	a, err := c.clusterToday(ctx, own, plan.Pod{})
	if a == nil {
		return err
	}
	return c.delGuarded(ctx, entry, own, a)
}

// clusterToday returns what the pod's annotation, or else the configuration,
// names as the cluster network today. It returns nil where nobody knows of
// one, or of the device that it needs: there is nothing to detach from, and a
// pod that was never attached must not stay for that.
func (c *call) clusterToday(ctx context.Context, own container, pod plan.Pod) (*network.Attachment, error) {
	a, err := c.planner.Cluster(ctx, pod, c.cniArgs, own.ifname)
	if err != nil && network.ReplacesCluster(pod.Annotations) {
		c.log.Warn("the network in the cluster network's place cannot be resolved: its addresses may stay allocated", "error", err.Error())
		pod.Annotations = maps.Clone(pod.Annotations)
		delete(pod.Annotations, network.DefaultNetworkAnnotation)
		a, err = c.planner.Cluster(ctx, pod, c.cniArgs, own.ifname)
	}
	unknown := errors.Is(err, plan.ErrNoCluster) || errors.Is(err, plan.ErrNoDefinition)
	if c.agent == nil || c.agent.down == nil { // one that was asked may tell later
		unknown = unknown || errors.Is(err, plan.ErrNeedsDevice) || errors.Is(err, errNotAsked)
	}
	if unknown {
		c.log.Warn("the container's cluster network is recorded nowhere and not known today: nothing to detach", "error", err.Error())
		return nil, nil
	}
	return a, err
}

// delUnrecorded detaches a container whose journal does not say what was
// attached: a power loss left the file empty, or the disk damaged it; or a call
// was killed that had just created it.
func (c *call) delUnrecorded(ctx context.Context, entry *journal.Entry, own container) error {
	if err := entry.AwaitOrphan(ctx, orphanPatience); err != nil {
		return err
	}
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
	attachments, err := c.today(ctx, own, nil)
	failed := []error{err, c.nameDeviceInfo(attachments)}
	for i := range slices.Backward(attachments) {
		share, cancel := shareOf(ctx, i+1) // as in detachEach
		failed = append(failed, c.delGuarded(share, entry, own, &attachments[i]), c.dropDeviceInfo(&attachments[i]))
		cancel()
	}
	if err = errors.Join(failed...); err != nil {
		return network.IO.Errorf("what was attached to container %s is recorded neither in %s nor, readably, by Multus in %s, and what today's configuration says cannot be detached: %w", own.id, c.config.StateDir, c.config.CNIDir, err)
	}
	if err = entry.Remove(); err != nil {
		return fmt.Errorf("end the journal: %w", err)
	}
	return nil
}

// today returns the networks that the configuration and the annotations name
// today, the cluster network first, less those whose interfaces are known. The
// error is about the cluster network alone.
func (c *call) today(ctx context.Context, own container, known []string) (attachments []network.Attachment, err error) {
	pod, podErr := c.pod()
	if podErr == nil {
		podErr = c.complete(ctx, &pod)
	} else {
		pod = plan.Pod{}
	}
	if podErr != nil {
		c.log.Warn("what the pod asks for is not known", "error", podErr.Error())
	}
	if !slices.Contains(known, own.ifname) {
		var cluster *network.Attachment
		if cluster, err = c.clusterToday(ctx, own, pod); cluster != nil {
			attachments = append(attachments, *cluster)
		}
	}
	secondaries, planErr := c.planner.Secondaries(ctx, pod, c.cniArgs, []string{own.ifname})
	if planErr != nil {
		c.log.Warn("the pod's networks cannot be resolved: their addresses may stay allocated", "error", planErr.Error())
	}
	secondaries = slices.DeleteFunc(secondaries, func(a network.Attachment) bool { return slices.Contains(known, a.IfName) })
	return append(attachments, secondaries...), err
}
