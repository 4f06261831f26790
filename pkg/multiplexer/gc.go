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
// tell the plugins of every network which of its attachments are in use. The
// node is looked at again in between: releasing takes time.
func (c *call) gc(ctx context.Context) error {
	if c.config.ValidAttachments == nil {
		return network.Invalid.Errorf("GC without cni.dev/valid-attachments: nothing is collected, since without the list every attachment would be")
	}
	before, _ := c.known(ctx) // what cannot be read now is said below
	failed := append(c.collectStale(ctx, before.stale), c.collectHeld(ctx))
	failed = append(failed, c.collectOrphans(ctx, before.orphans)...)
	now, unreadable := c.known(ctx)
	if len(unreadable) > 0 {
		// Nobody knows which attachments are in use.
		return errors.Join(append(failed, unreadable...)...)
	}
	if !now.unknown { // networks of which nothing is left are asked too
		for _, attachments := range before.networks {
			now.add(attachments...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.networks)) {
		if slices.ContainsFunc(now.networks[name], plan.DisablesGC) {
			continue
		}
		for _, attachment := range now.networks[name] {
			asking, cancel := context.WithTimeout(ctx, leastShare)
			failed = append(failed, c.runner.GC(asking, attachment, now.valid[name]))
			cancel()
		}
	}
	return errors.Join(failed...)
}

// collectHeld takes back what embedded plugins hold for namespaces that are
// gone: devices whose container's journal was lost.
func (c *call) collectHeld(ctx context.Context) error {
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(c.runner.Embedded)) {
		if collector, ok := c.runner.Embedded[name].(network.Collector); ok {
			failed = append(failed, collector.Collect(ctx, c.config.StateDir))
		}
	}
	return errors.Join(failed...)
}

// collectStale releases containers, as many as there is time for: one that
// is cut short would have to be released again.
func (c *call) collectStale(ctx context.Context, stale []staleContainer) []error {
	var failed []error
	for n, one := range stale {
		if end, ok := ctx.Deadline(); ok && time.Until(end) < leastShare {
			return append(failed, network.Again.Errorf("no time left for %d containers that are gone: the next GC goes on with them", len(stale)-n))
		}
		share, done := shareOf(ctx, len(stale)-n)
		if err := c.collect(share, one); err != nil {
			failed = append(failed, fmt.Errorf("container %s: %w", one.id, err))
		}
		done()
	}
	return failed
}

// inventory is what the node has, by CNI network name: IPAM plugins keep
// their addresses under it, so one name is asked with one list.
type inventory struct {
	networks map[string][]*network.Attachment // the distinct configurations
	valid    map[string][]types.GCAttachment
	stale    []staleContainer
	orphans  []string // containers of Multus that are gone
	// unknown: a container is in use whose attachments neither a journal names
	// nor Multus's records, one from before the installation.
	unknown bool
}

// staleContainer is one that the runtime does not list, in the life that its
// journal was opened for.
type staleContainer struct {
	id     string
	opened time.Time
}

// known reads every journal, without its lock: a container that a call works
// on now is in use. The errors are about those that do not say what is in use.
func (c *call) known(ctx context.Context) (*inventory, []error) {
	inv := &inventory{networks: map[string][]*network.Attachment{}, valid: map[string][]types.GCAttachment{}}
	containers, err := c.store.Containers()
	if err != nil {
		return inv, []error{err}
	}
	var failed []error
	var journaled []string // whose attachments are known; an empty journal is one that a killed DEL had just made
	for _, id := range containers {
		contents, readErr := c.store.Read(id)
		switch {
		case errors.Is(readErr, journal.ErrAbsent):
		case readErr != nil:
			failed = append(failed, fmt.Errorf("container %s: %w", id, readErr))
		case contents.Damaged > 0:
			failed = append(failed, network.IO.Errorf("container %s: its journal in %s is damaged; delete the pod, and it is released", id, c.config.StateDir))
		default:
			c.take(inv, id, contents)
			if contents.Usable() {
				journaled = append(journaled, id)
			}
		}
	}
	journaled = append(journaled, c.takeMultus(inv, journaled)...)
	inv.unknown = slices.ContainsFunc(c.config.ValidAttachments, func(v types.GCAttachment) bool {
		return !slices.Contains(journaled, v.ContainerID)
	})
	if inv.unknown {
		c.log.Warn("GC of secondary networks is left out while containers from before the installation run")
		clear(inv.networks)
	} else if defaults, planErr := c.planner.DefaultNetworks(ctx); planErr == nil {
		for i := range defaults {
			inv.add(&defaults[i])
		}
	}
	c.takeCluster(ctx, inv)
	return inv, failed
}

// takeCluster takes the cluster network: the runtime's list is about it, and
// holds the pods from before the installation too.
func (c *call) takeCluster(ctx context.Context, inv *inventory) {
	cluster, err := c.planner.Cluster(ctx, plan.Pod{}, nil, defaultIfName)
	if err != nil {
		c.log.Warn("GC of the cluster network is left out", "error", err.Error())
		return
	}
	inv.add(cluster)
	for _, valid := range c.config.ValidAttachments {
		inv.use(cluster.Name, valid)
	}
}

// defaultIfName is the cluster network's interface where nobody names it.
const defaultIfName = "eth0"

func (c *call) take(inv *inventory, id string, contents *journal.Contents) {
	listed := slices.ContainsFunc(c.config.ValidAttachments, func(v types.GCAttachment) bool {
		return v.ContainerID == id && (v.IfName == contents.Header.IfName || contents.Header.IfName == "")
	})
	// Another configuration's containers are in its own list.
	foreign := contents.Header.Network != "" && contents.Header.Network != c.config.Name
	used := listed || foreign || contents.Busy
	if !used {
		inv.stale = append(inv.stale, staleContainer{id, contents.Opened})
	}
	for i := range contents.Records {
		a := &contents.Records[i].Attachment
		inv.add(a)
		if used && contents.Records[i].Step != journal.Deleted {
			inv.use(a.Name, types.GCAttachment{ContainerID: id, IfName: a.IfName})
		}
	}
}

func (inv *inventory) use(name string, valid types.GCAttachment) {
	if !slices.Contains(inv.valid[name], valid) {
		inv.valid[name] = append(inv.valid[name], valid)
	}
}

// add takes networks' configurations, each once.
func (inv *inventory) add(attachments ...*network.Attachment) {
	for _, a := range attachments {
		same := func(b *network.Attachment) bool {
			return a.CNIVersion == b.CNIVersion && a.DisableGC == b.DisableGC && a.Source == b.Source &&
				slices.EqualFunc(a.Plugins, b.Plugins, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
		}
		if !slices.ContainsFunc(inv.networks[a.Name], same) {
			inv.networks[a.Name] = append(inv.networks[a.Name], a)
		}
	}
}

// collect releases one container.
func (c *call) collect(ctx context.Context, stale staleContainer) error {
	entry, err := c.store.Try(ctx, stale.id)
	if errors.Is(err, journal.ErrBusy) || errors.Is(err, journal.ErrAbsent) {
		return nil // somebody is at work on it, or was
	}
	if err != nil {
		return err
	}
	defer entry.Close()
	if !entry.Opened.Equal(stale.opened) {
		return nil // a new life began meanwhile
	}
	if !entry.Usable() {
		c.log.Warn("the journal of a container that is gone is empty", "gone", stale.id)
		return c.delUnrecorded(ctx, entry, container{id: stale.id, ifname: defaultIfName})
	}
	return c.release(ctx, entry, "GC", "")
}
