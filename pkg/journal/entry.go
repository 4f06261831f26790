package journal

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Step is how far one attachment has come.
type Step string

// The steps of an attachment, in the order in which they may follow.
const (
	Planned  Step = "planned"
	Adding   Step = "adding"
	Added    Step = "added"
	Deleting Step = "deleting"
	Deleted  Step = "deleted"
)

// Record is one attachment and what became of it.
type Record struct {
	network.Attachment
	Step   Step
	Result json.RawMessage // of its ADD, once Added
	Device json.RawMessage // information on its device, once Added; nil = there is none
	State  []byte          // an embedded plugin's own record
	Error  string          // of its last DEL, "" when that succeeded
	// Hidden: its plan line is damaged. How far it came is known, not what it is.
	Hidden bool
}

// Attempted reports whether the attachment may have left something behind.
func (r *Record) Attempted() bool { return r.Step != Planned && r.Step != Deleted }

// Network reports whether the attachment is one of those beside the cluster
// network, is known, and may have left something behind.
func (r *Record) Network() bool { return !r.Cluster && !r.Hidden && r.Attempted() }

// Contents is what a journal says.
type Contents struct {
	Header      Header
	Opened      time.Time
	Records     []Record
	Routing     json.RawMessage // the plan of the routing rules; nil = nothing was set
	Complete    bool            // ADD succeeded as a whole
	Releasing   string          // the verb that ordered the release; "" = none did
	Detaching   string          // who ordered the networks off a container that goes on; "" = nobody
	Failures    int             // failed tries to release
	LastFailure time.Time
	failedNow   bool // the try that goes on has failed already
	Interrupted bool // the last event is adding or deleting: a delegate may still run
	Damaged     int  // lines that could not be read
	Busy        bool // a call works on it now; only Store.Read knows
}

// Usable reports whether the journal says whose it is; one that does not
// holds nothing that can be replayed.
func (c *Contents) Usable() bool { return c.Header.Container != "" }

// adopt names the container of a journal whose first line is damaged by its
// file, if it still says what was planned.
func (c *Contents) adopt(container string) {
	if c.Header.Container == "" && slices.ContainsFunc(c.Records, func(r Record) bool { return !r.Hidden }) {
		c.Header.Container = container
	}
}

// Pod returns the namespace and the name of the pod; empty for a container
// that is none.
func (c *Contents) Pod() (namespace, name string) {
	namespace, name, _ = strings.Cut(c.Header.Pod, "/")
	return namespace, name
}

// Names returns the interfaces that the attachments have or are to have, as
// far as they are known.
func (c *Contents) Names() []string {
	var names []string
	for i := range c.Records {
		if !c.Records[i].Hidden {
			names = append(names, c.Records[i].IfName)
		}
	}
	return names
}

// Hides reports whether a plan line is known to be damaged: its attachments may
// have left something behind.
func (c *Contents) Hides() bool {
	return slices.ContainsFunc(c.Records, func(r Record) bool { return r.Hidden && r.Step != Deleted })
}

// mostRecords bounds what a line's number can make of a journal: far more than
// the networks that a pod can name.
const mostRecords = 1 << 8

// reach makes room for n attachments. Those that no plan line named before are
// hidden: an attachment keeps its number, whatever line before it is damaged.
func (c *Contents) reach(n int) {
	for len(c.Records) < min(n, mostRecords) {
		c.Records = append(c.Records, Record{Step: Planned, Hidden: true})
	}
}

// apply takes one event over.
func (c *Contents) apply(e event) {
	if e.Event != evState { // an embedded plugin's record comes while it is at work
		c.Interrupted = e.Event == evAdding || e.Event == evDeleting
	}
	switch e.Event {
	case evOpen:
		if e.Header != nil {
			c.Header, c.Opened = *e.Header, e.Time
		}
	case evAdopt:
		c.applyAdopt(e)
	case evPlan:
		c.reach(e.Index) // 0 in the lines of a version that wrote no number
		for _, a := range e.Plan {
			c.Records = append(c.Records, Record{Attachment: a, Step: Planned})
		}
	case evRouting:
		c.Routing = slices.Clone(e.Routing)
	case evReady:
		c.Complete = true
	case evRelease:
		c.Releasing, c.failedNow = e.Note, false
	case evDetach:
		c.Detaching, c.failedNow = e.Note, false
	case evAdding, evAdded, evState, evDeleting, evDeleted, evFailed:
		if c.reach(e.Index + 1); e.Index >= 0 && e.Index < len(c.Records) {
			c.applyRecord(&c.Records[e.Index], e)
		}
	}
}

func (c *Contents) applyRecord(r *Record, e event) {
	switch e.Event {
	case evAdding:
		r.Step = Adding
	case evAdded:
		r.Step, r.Result, r.Device = Added, slices.Clone(e.Result), slices.Clone(e.Device)
	case evState:
		r.State = e.State
	case evDeleting:
		r.Step = Deleting
	case evDeleted:
		r.Step, r.Error = Deleted, ""
	case evFailed:
		r.Error = e.Note
		if c.LastFailure = e.Time; !c.failedNow {
			c.Failures++
			c.failedNow = true
		}
	}
}
