package journal

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Entry is one container's journal, locked by this process. Contents always
// says what the file says: a line is taken over after it was written.
type Entry struct {
	Contents
	store     *Store
	container string
	file      *os.File
	size      int64 // of the whole lines
	torn      bool  // bytes of a broken write may follow them
}

// Begin starts a journal: whose it is. What the file held before, if
// anything, is thrown away.
func (e *Entry) Begin(h Header) error {
	e.torn = e.torn || e.size > 0
	e.Contents, e.size = Contents{}, 0
	return e.append(event{Event: evOpen, Version: Version, Header: &h})
}

// Plan adds attachments that may be attempted from now on, and returns the
// index of the first.
func (e *Entry) Plan(attachments ...network.Attachment) (int, error) {
	first := len(e.Records)
	return first, e.append(event{Event: evPlan, Plan: attachments, Index: first})
}

// Adding is written before attachment i's ADD runs.
func (e *Entry) Adding(i int) error { return e.append(event{Event: evAdding, Index: i}) }

// Added is written right after attachment i's ADD succeeded. device is what
// is known of its device then, or nil: who publishes it needs no other source.
func (e *Entry) Added(i int, result, device json.RawMessage) error {
	return e.append(event{Event: evAdded, Index: i, Result: result, Device: device})
}

// SetRouting is written before routes, rules or sysctls change. A later plan
// takes the place of an earlier one; nil is written after they were undone.
func (e *Entry) SetRouting(plan json.RawMessage) error {
	return e.append(event{Event: evRouting, Routing: plan})
}

// Ready is written when ADD succeeded as a whole, before its result is
// printed.
func (e *Entry) Ready() error { return e.append(event{Event: evReady}) }

// Release is written before anything is undone; `verb` says on whose order.
func (e *Entry) Release(verb string) error { return e.append(event{Event: evRelease, Note: verb}) }

// Detach is written before the networks beside the cluster network are undone
// of a container that goes on; `order` says on whose order.
func (e *Entry) Detach(order string) error { return e.append(event{Event: evDetach, Note: order}) }

// Deleting is written before attachment i's DEL runs.
func (e *Entry) Deleting(i int) error { return e.append(event{Event: evDeleting, Index: i}) }

// Deleted is written right after attachment i's DEL succeeded.
func (e *Entry) Deleted(i int) error { return e.append(event{Event: evDeleted, Index: i}) }

// Failed is written when attachment i's DEL failed.
func (e *Entry) Failed(i int, cause error) error {
	return e.append(event{Event: evFailed, Index: i, Note: cause.Error()})
}

// State returns the place for an embedded plugin's own record of attachment i.
func (e *Entry) State(i int) network.State { return recordState{e, i} }

type recordState struct {
	entry *Entry
	index int
}

func (s recordState) Load() []byte { return s.entry.Records[s.index].State }

func (s recordState) Save(data []byte) error {
	return s.entry.append(event{Event: evState, Index: s.index, State: data})
}

// append writes one line and takes it over.
func (e *Entry) append(ev event) error {
	ev.Time = e.store.Now().UTC()
	line, err := encodeLine(ev)
	if err != nil {
		return err
	}
	if e.torn {
		if err = e.file.Truncate(e.size); err != nil {
			return e.store.failed(err)
		}
		e.torn = false
	}
	if _, err = e.file.WriteAt(line, e.size); err != nil {
		e.torn = true
		return e.store.failed(err)
	}
	e.size += int64(len(line))
	e.apply(ev)
	return nil
}

// Sync makes the journal outlive a power loss: file and directory. It is
// called before the first effect of a secondary network, and of one in the
// cluster network's place.
func (e *Entry) Sync() error {
	dir, err := os.Open(filepath.Join(e.store.Dir, journalDir))
	if err != nil {
		return e.store.failed(err)
	}
	if err = errors.Join(e.file.Sync(), dir.Sync(), dir.Close()); err != nil {
		return e.store.failed(err)
	}
	return nil
}

// Mark leaves a note that the container is to be released later.
func (e *Entry) Mark() error { return e.store.Mark(e.container) }

// Unmark takes the note away.
func (e *Entry) Unmark() error { return e.store.Unmark(e.container) }

// Remove ends the journal: nothing of the container is left.
func (e *Entry) Remove() error {
	err := errors.Join(
		absentIsFine(os.Remove(e.store.path(runningDir, e.container))),
		absentIsFine(os.Remove(e.store.path(releaseDir, e.container))),
		absentIsFine(os.Remove(e.store.path(journalDir, e.container))))
	if err != nil {
		return e.store.failed(err)
	}
	return nil
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close gives the lock back.
func (e *Entry) Close() error { return e.file.Close() }
