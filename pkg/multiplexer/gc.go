package multiplexer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// gcBudget bounds GC as a whole: CRI-O ends it after 30 s. What is not done by
// then the next GC does.
const gcBudget = 25 * time.Second

// gc is GC: release every container that the runtime does not list, then
// tell the plugins of every network which of its attachments are in use.
func (c *call) gc(ctx context.Context) error {
	if c.config.ValidAttachments == nil {
		return network.Invalid.Errorf("GC without cni.dev/valid-attachments: nothing is collected, since without the list every attachment would be")
	}
	known, failed := c.known(ctx)
	left := len(known.stale) + len(known.networks)
	for _, container := range known.stale {
		share, done := shareOf(ctx, left)
		if err := c.collect(share, container); err != nil {
			failed = append(failed, fmt.Errorf("container %s: %w", container, err))
		}
		done()
		left--
	}
	for _, n := range slices.Sorted(maps.Keys(known.networks)) {
		share, done := shareOf(ctx, left)
		for _, attachment := range known.networks[n] {
			failed = append(failed, c.runner.GC(share, attachment, known.valid[n]))
		}
		done()
		left--
	}
	return errors.Join(failed...)
}

// inventory is what the node has, by CNI network name: IPAM plugins keep
// their addresses under it, so one name is asked with one list.
type inventory struct {
	networks map[string][]*network.Attachment // the distinct configurations
	valid    map[string][]types.GCAttachment
	stale    []string // containers that the runtime does not list
}

// known reads every journal. One that cannot be read is reported, and its
// container counts as in use.
func (c *call) known(ctx context.Context) (*inventory, []error) {
	inv := &inventory{networks: map[string][]*network.Attachment{}, valid: map[string][]types.GCAttachment{}}
	if cluster, err := c.planner.Cluster(ctx, plan.Pod{}, nil, c.args.IfName); err == nil {
		inv.add(cluster)
		// Pods from before the installation have no journal.
		inv.valid[cluster.Name] = append(inv.valid[cluster.Name], c.config.ValidAttachments...)
	} else {
		c.log.Warn("GC of the cluster network is left out", "error", err.Error())
	}
	containers, err := c.store.Containers()
	if err != nil {
		return inv, []error{err}
	}
	var failed []error
	for _, container := range containers {
		var entry *journal.Entry
		entry, err = c.store.Try(ctx, container)
		if errors.Is(err, journal.ErrBusy) || errors.Is(err, journal.ErrAbsent) {
			continue // somebody is at work on it, or was
		}
		if err == nil {
			c.take(inv, container, entry)
			err = entry.Close()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("container %s: %w", container, err))
		}
	}
	return inv, failed
}

func (c *call) take(inv *inventory, container string, entry *journal.Entry) {
	used := slices.ContainsFunc(c.config.ValidAttachments, func(v types.GCAttachment) bool {
		return v.ContainerID == container && (v.IfName == entry.Header.IfName || !entry.Usable())
	})
	if !used {
		inv.stale = append(inv.stale, container)
	}
	for i := range entry.Records {
		a := &entry.Records[i].Attachment
		inv.add(a)
		valid := types.GCAttachment{ContainerID: container, IfName: a.IfName}
		if used && !slices.Contains(inv.valid[a.Name], valid) {
			inv.valid[a.Name] = append(inv.valid[a.Name], valid)
		}
	}
}

// add takes a network's configuration, once.
func (inv *inventory) add(a *network.Attachment) {
	same := func(b *network.Attachment) bool {
		return a.CNIVersion == b.CNIVersion && slices.EqualFunc(a.Plugins, b.Plugins, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
	}
	if !slices.ContainsFunc(inv.networks[a.Name], same) {
		inv.networks[a.Name] = append(inv.networks[a.Name], a)
	}
}

// collect releases one container.
func (c *call) collect(ctx context.Context, container string) error {
	entry, err := c.store.Try(ctx, container)
	if errors.Is(err, journal.ErrBusy) || errors.Is(err, journal.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if !entry.Usable() {
		c.log.Warn("a damaged journal of a container that is gone is ended", "gone", container)
		return entry.Remove()
	}
	return c.release(ctx, entry, "GC", "")
}
