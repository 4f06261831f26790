package multiplexer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// inheritance is what Multus left of a container, complete with what it did
// not keep.
type inheritance struct {
	*multus.Record
	own container
}

// files are those to remove once all is detached: the runtime's record of
// Multus itself too, if nothing else is left to look into.
func (left *inheritance) files() []string {
	if len(left.Problems) > 0 {
		return left.Files
	}
	return append(slices.Clone(left.Files), multus.OuterRecords(multus.RuntimeResults, left.own.id, left.own.ifname)...)
}

// inherit reads what Multus left of a container: nil where there is nothing.
// What cannot be read is said, and stays on the disk.
func (c *call) inherit(ctx context.Context, own container) *inheritance {
	record, err := multus.Read(c.config.CNIDir, own.id, multus.Call{IfName: own.ifname, Args: c.cniArgs, RuntimeConfig: c.config.RuntimeConfig})
	if err != nil {
		c.log.Warn("the records of Multus are left alone", "error", err.Error())
		return nil
	}
	if record == nil {
		return nil
	}
	for _, problem := range record.Problems {
		c.log.Warn("a record of Multus cannot be used, and stays: see which addresses its networks still hold, then remove it", "error", problem.Error())
	}
	if len(record.Attachments) > 0 {
		c.completeCluster(ctx, record, own)
	}
	return &inheritance{record, own}
}

// withoutMultus releases, before an ADD, what Multus left of the container: a
// runtime tried Multus first, and the conf changed in between. An ADD in the
// midst of one of Multus's own (it is chained, or Multus's delegate) finds a
// record too, which is not of an earlier one.
func (c *call) withoutMultus(ctx context.Context, entry *journal.Entry) (*journal.Entry, error) {
	id := c.args.ContainerID
	if c.config.PrevResult != nil || !multus.Listed(c.config.CNIDir, id) {
		return entry, nil
	}
	releasing, cancel := context.WithTimeout(ctx, c.config.DelTimeout)
	defer cancel()
	left := c.inherit(releasing, container{id, c.args.IfName, c.args.Netns})
	if left == nil || len(left.Problems) > 0 {
		return entry, nil
	}
	c.log.Info("releasing what an ADD of Multus for this container left")
	_, err := c.delAdopted(releasing, entry, left, "ADD")
	if err = errors.Join(err, entry.Close()); err != nil {
		return nil, fmt.Errorf("the container has networks of an earlier ADD by Multus that cannot be released: %w", err)
	}
	return c.store.Create(ctx, id)
}

// completeCluster sees to it that the cluster network is detached, whatever
// can be read of Multus's records.
func (c *call) completeCluster(ctx context.Context, record *multus.Record, own container) {
	if slices.ContainsFunc(record.Attachments, func(a multus.Attachment) bool { return a.Cluster }) {
		return
	}
	cluster, err := c.planner.Cluster(ctx, plan.Pod{}, c.cniArgs, own.ifname)
	switch {
	case errors.Is(err, plan.ErrChained): // it is detached by whoever calls us
	case err != nil:
		c.log.Warn("the cluster network is not detached: neither Multus's records nor the node's files name one", "error", err.Error())
	default:
		record.Attachments = slices.Insert(record.Attachments, 0, multus.Attachment{Attachment: *cluster})
	}
}

// adopt makes a container's journal from what Multus left. From then on it is
// released as any other: one failure stops no other, and is tried again.
func (c *call) adopt(entry *journal.Entry, left *inheritance) error {
	own := left.own
	var attachments []network.Attachment
	var results []json.RawMessage
	for i := range left.Attachments {
		attachments, results = append(attachments, left.Attachments[i].Attachment), append(results, left.Attachments[i].Result)
	}
	for _, a := range c.leftToHeirs(own, attachments) {
		attachments, results = append(attachments, a), append(results, nil)
	}
	h := journal.Header{
		Container: own.id, Network: c.config.Name, IfName: own.ifname, Netns: own.netns, Boot: c.boot,
		Args: attachments[0].Args, Adopted: left.files(),
	}
	// A namespace that is gone has none: then there is nothing to compare with.
	h.Cookie, _ = podns.Cookie(own.netns)
	if pod := podOf(h.Args); pod.Name != "" {
		h.Pod, h.UID = pod.String(), pod.UID
	}
	c.log.Info("detaching what Multus attached", "attachments", len(attachments), "records", h.Adopted)
	return entry.Adopt(h, attachments, results)
}

// leftToHeirs returns what embedded plugins inherited of the container and
// Multus's records do not name.
func (c *call) leftToHeirs(own container, known []network.Attachment) (more []network.Attachment) {
	for _, heir := range c.heirs() {
		left, err := heir.Left(own.id)
		if err != nil {
			c.log.Warn("what another program attached is not known", "error", err.Error())
		}
		for _, a := range left {
			if !slices.ContainsFunc(known, func(b network.Attachment) bool { return b.IfName == a.IfName }) {
				a.Args = c.cniArgs
				more = append(more, a)
			}
		}
	}
	return more
}

// delAdopted releases what Multus left. It reports false when that was nothing
// that can be detached.
func (c *call) delAdopted(ctx context.Context, entry *journal.Entry, left *inheritance, verb string) (bool, error) {
	if left == nil || len(left.Attachments) == 0 {
		return false, nil
	}
	if err := c.adopt(entry, left); err != nil {
		c.note(err)
		return true, errors.Join(c.delUnjournaled(ctx, left), entry.Remove())
	}
	return true, c.release(ctx, entry, verb, left.own.netns)
}

// delUnjournaled detaches what Multus left where no journal can be written.
// Multus's records are what a later try has.
func (c *call) delUnjournaled(ctx context.Context, left *inheritance) error {
	var failed []error
	for n, i := 0, len(left.Attachments)-1; i >= 0; n, i = n+1, i-1 {
		a := &left.Attachments[i]
		share, cancel := shareOf(ctx, len(left.Attachments)-n)
		failed = append(failed, c.runner.Del(share, &a.Attachment, delegate.Request{ContainerID: left.own.id, Netns: left.own.netns, PrevResult: replayed(&a.List, a.Result)}))
		cancel()
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, path := range left.files() {
		if err := os.Remove(path); err != nil {
			return network.IO.Errorf("remove a record of Multus: %w", err)
		}
	}
	return nil
}

// checkAbsent is the CHECK of a container without a journal: of all that
// Multus attached, by its records, else of the cluster network.
func (c *call) checkAbsent(ctx context.Context) error {
	left := c.inherit(ctx, container{c.args.ContainerID, c.args.IfName, c.args.Netns})
	if left == nil || len(left.Problems) > 0 {
		return c.checkCluster(ctx)
	}
	var failed []error
	for i := range left.Attachments {
		a := &left.Attachments[i]
		if slices.ContainsFunc(a.Types(), func(t string) bool { return c.runner.Embedded[t] != nil }) {
			continue // it has no record of its own to compare with
		}
		result := a.Result
		if result == nil && a.Cluster {
			result = c.config.PrevResult
		}
		if result == nil {
			continue // nobody knows what to compare with
		}
		failed = append(failed, c.runner.Check(ctx, &a.Attachment, delegate.Request{
			ContainerID: left.own.id, Netns: left.own.netns, PrevResult: replayed(&a.List, result),
		}))
	}
	return errors.Join(failed...)
}

// takeMultus takes the containers that Multus attached and no journal knows.
// Those that it returns are known with all that they have.
func (c *call) takeMultus(inv *inventory, journaled []string) (known []string) {
	containers, err := multus.Containers(c.config.CNIDir)
	if err != nil {
		c.log.Warn("the containers of Multus are not known", "error", err.Error())
		return nil
	}
	records := multus.NewReader(c.config.CNIDir)
	for _, id := range containers {
		if slices.Contains(journaled, id) {
			continue
		}
		ifname, listed := c.listed(id)
		record, readErr := records.Read(id, multus.Call{IfName: ifname})
		if readErr != nil || record == nil || len(record.Problems) > 0 {
			continue // DEL says what is wrong with it
		}
		if !listed && record.Gone("/") {
			inv.orphans = append(inv.orphans, id)
			continue
		}
		known = append(known, id)
		inv.takeRecord(id, record)
	}
	return known
}

// takeRecord takes one container's attachments as in use. Its networks are
// asked once, whichever of their pods tells of them.
func (inv *inventory) takeRecord(id string, record *multus.Record) {
	for i := range record.Attachments {
		a := &record.Attachments[i]
		asked := slices.ContainsFunc(inv.networks[a.Name], func(b *network.Attachment) bool {
			return slices.EqualFunc(a.Plugins, b.Plugins, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
		})
		if !asked {
			inv.add(&a.Attachment)
		}
		inv.use(a.Name, types.GCAttachment{ContainerID: id, IfName: a.IfName})
	}
}

// listed reports whether the runtime lists a container, and its interface.
func (c *call) listed(id string) (ifname string, listed bool) {
	i := slices.IndexFunc(c.config.ValidAttachments, func(v types.GCAttachment) bool { return v.ContainerID == id })
	if i < 0 {
		return "", false
	}
	return c.config.ValidAttachments[i].IfName, true
}

// collectOrphans releases what Multus left of containers that are gone.
func (c *call) collectOrphans(ctx context.Context, orphans []string) []error {
	var failed []error
	for n, id := range orphans {
		share, done := shareOf(ctx, len(orphans)-n)
		if err := c.collectOrphan(share, id); err != nil {
			failed = append(failed, fmt.Errorf("container %s, which Multus attached: %w", id, err))
		}
		done()
	}
	return failed
}

func (c *call) collectOrphan(ctx context.Context, id string) error {
	entry, err := c.store.Create(ctx, id)
	if err != nil {
		return err
	}
	defer entry.Close()
	if entry.Usable() {
		return nil // a call began with it meanwhile
	}
	if err = entry.AwaitOrphan(ctx, orphanPatience); err != nil {
		return err
	}
	left := c.inherit(ctx, container{id: id, ifname: defaultIfName})
	if adopted, relErr := c.delAdopted(ctx, entry, left, "GC"); adopted {
		return relErr
	}
	return entry.Remove()
}
