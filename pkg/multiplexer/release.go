package multiplexer

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// release undoes all that a journal says was attempted, last first, and then
// ends the journal. One failure stops no other; what failed stays in the
// journal, marked for a later try. ADD's undo, DEL, GC, a second ADD and
// leftovers all come here (docs/journal.md).
//
// `offered` is the namespace's path as the runtime names it now, or "".
func (c *call) release(ctx context.Context, entry *journal.Entry, verb, offered string) error {
	if err := entry.AwaitOrphan(ctx, orphanPatience); err != nil {
		return errors.Join(err, entry.Mark())
	}
	// From here on a journal that cannot be written stops nothing: what is
	// released is released, and releasing twice does no harm.
	c.note(entry.Release(verb))
	c.note(entry.Mark()) // until it is done, whatever becomes of this call
	netns := entry.Header.Live(c.boot, offered)
	var failed []error
	if err := c.planHidden(ctx, entry); err != nil {
		failed = append(failed, err)
	}
	var attempted []int
	for _, cluster := range []bool{false, true} { // one that was planned anew is behind the others
		for i := range slices.Backward(entry.Records) {
			if r := &entry.Records[i]; r.Cluster == cluster && mayBeLeft(entry, r) {
				attempted = append(attempted, i)
			}
		}
	}
	if err := c.unroute(entry, netns); err != nil {
		failed = append(failed, err)
	}
	if failed = append(failed, c.detachEach(ctx, entry, verb, netns, attempted)...); len(failed) > 0 {
		return errors.Join(failed...)
	}
	if err := entry.RemoveAdopted(); err != nil {
		return err
	}
	return entry.Remove()
}

// detachEach detaches attachments in this order. One failure stops no other.
func (c *call) detachEach(ctx context.Context, entry *journal.Entry, verb, netns string, which []int) (failed []error) {
	for n, i := range which {
		// Each gets its share of the time, so that one that hangs starves nobody.
		share, cancel := shareOf(ctx, len(which)-n)
		if err := c.detach(share, entry, i, netns); err != nil {
			failed = append(failed, err)
			c.cutShort(share, entry)
			if told := errors.Is(ctx.Err(), context.Canceled); !told && (verb != byStatus || ctx.Err() == nil) {
				c.note(entry.Failed(i, err))
			}
		}
		cancel()
	}
	return failed
}

// cutShort ends what a delegate that ran out of its time left running outside
// its process group: the next try must not meet it.
func (c *call) cutShort(share context.Context, entry *journal.Entry) {
	if share.Err() != nil {
		c.note(entry.AwaitOrphan(share, 0))
	}
}

// detach runs one attachment's DEL with all that its ADD was given, and its
// result.
func (c *call) detach(ctx context.Context, entry *journal.Entry, i int, netns string) error {
	record := &entry.Records[i]
	guard, err := entry.Guard()
	c.note(err)
	if guard != nil {
		defer guard.Close()
	}
	c.note(entry.Deleting(i))
	err = c.runner.Del(ctx, &record.Attachment, delegate.Request{
		ContainerID: entry.Header.Container, Netns: netns, State: entry.State(i), Guard: guard, PrevResult: prevResult(record),
	})
	if err == nil {
		err = c.dropDeviceInfo(&record.Attachment)
	}
	if err != nil {
		return err
	}
	c.note(entry.Deleted(i))
	return nil
}

// prevResult is what CHECK and DEL get of the ADD; lists older than 0.4.0 do
// not know it.
func prevResult(record *journal.Record) json.RawMessage { return replayed(&record.List, record.Result) }

// replayed is a result as a list's plugins can read it. What the runtime or
// Multus kept is at another version than the list's; a plugin would refuse
// that, and the container could never be deleted.
func replayed(list *network.List, result json.RawMessage) json.RawMessage {
	if known, err := version.GreaterThanOrEqualTo(list.CNIVersion, "0.4.0"); err != nil || !known || result == nil {
		return nil
	}
	converted, err := delegate.Convert(result, list.CNIVersion)
	if err != nil {
		return result // whose it is may know better
	}
	return converted
}

// leastShare is what one of many gets if there is that much: a share that is
// too short for anybody's DEL would serve nobody.
const leastShare = 5 * time.Second

// shareOf gives the next of n its share of ctx's time: what is left divided
// by n, but half of it, up to leastShare, when there are many.
func shareOf(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(end)
	return context.WithTimeout(ctx, max(left/time.Duration(n), min(left/2, leastShare)))
}

// note logs an error that must not stop the work.
func (c *call) note(err error) {
	if err != nil {
		c.log.Error("the journal cannot be written", "error", err.Error())
	}
}
