package multiplexer

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// mayBeLeft reports whether release has to detach an attachment. A damaged line
// may be the one that said it was attempted.
func mayBeLeft(entry *journal.Entry, r *journal.Record) bool {
	return !r.Hidden && (r.Attempted() || entry.Damaged > 0 && r.Step == journal.Planned)
}

// planHidden plans anew what damaged lines of the journal may hide: what
// configuration and annotations say today, less what the whole lines name. So
// it is released, and tried again, like all else. Only a call for the container
// itself knows its pod. What Multus left is planned in one line, whole or not.
func (c *call) planHidden(ctx context.Context, entry *journal.Entry) error {
	own := container{c.args.ContainerID, c.args.IfName, c.args.Netns}
	if entry.Damaged == 0 || entry.Header.Container != own.id || len(entry.Header.Adopted) > 0 {
		return nil
	}
	known := entry.Names()
	if entry.Header.Chained { // who stands before us detaches it
		known = append(known, own.ifname)
	}
	planner := *c.planner
	attachments, unknown := c.today(ctx, own, known)
	*c.planner = planner // an ADD plans its own
	var references []string
	for i := range attachments {
		references = append(references, attachments[i].String())
	}
	c.log.Warn("lines of the container's journal are damaged: besides what the others name, what configuration and annotations say today is detached",
		"lines", entry.Damaged, "today", references)
	if len(attachments) == 0 {
		return unknown
	}
	if err := c.nameDeviceInfo(attachments); err != nil {
		return err
	}
	first, err := entry.Plan(attachments...)
	if err == nil && attachments[0].Cluster {
		if result := c.clusterResult(entry); result != nil {
			err = entry.Added(first, result, nil)
		}
	}
	return errors.Join(unknown, err)
}

// clusterResult is what is known of the cluster network's ADD when its plan line
// is damaged: the journal's own, else what the runtime kept.
func (c *call) clusterResult(entry *journal.Entry) json.RawMessage {
	if first := &entry.Records[0]; first.Hidden && first.Result != nil {
		return first.Result
	}
	return c.config.PrevResult
}
