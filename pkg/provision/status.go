package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// State is how far a PF is.
type State string

// The states.
const (
	Absent  State = "absent"  // the node has no such PF at the moment
	Working State = "working" // it is being set up
	Waiting State = "waiting" // for pods that have its VFs
	Failed  State = "failed"  // and is tried again
	Done    State = "done"
)

// PFStatus says how a PF of the configuration is, or one that goes back to
// what it was.
type PFStatus struct {
	Name   string `json:"name,omitempty"`
	PCI    string `json:"pciAddress,omitempty"`
	NumVFs int    `json:"numVfs"`
	Driver string `json:"driver,omitempty"`
	MTU    int    `json:"mtu,omitempty"`

	Undo     bool              `json:"undo,omitempty"` // it has left the configuration
	State    State             `json:"state"`
	Reason   string            `json:"reason,omitempty"`
	Withheld bool              `json:"withheld,omitempty"` // none of its VFs is offered
	Waiting  map[string]string `json:"waiting,omitempty"`  // VFs that are still to be changed, and why
	Since    time.Time         `json:"since"`              // of this state and reason
}

// set takes a state over.
func (t *target) set(s State, reason string, now time.Time) {
	if t.status.State == s && t.status.Reason == reason {
		return
	}
	t.status.State, t.status.Reason, t.status.Since = s, reason, now
}

// Status tells how the PFs are: those of the configuration first, in its order.
func (p *Provisioner) Status() []PFStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]PFStatus, 0, len(p.targets))
	for _, t := range p.targets {
		s := t.status
		s.Waiting, s.Withheld = nil, !t.whole
		for vf, w := range t.waiting {
			if s.Waiting == nil {
				s.Waiting = map[string]string{}
			}
			s.Waiting[vf] = w.why
		}
		out = append(out, s)
	}
	return out
}

// troubles are the reasons of what is not done.
func (p *Provisioner) troubles() error {
	var failed []error
	for _, s := range p.Status() {
		if s.State != Done && s.Reason == "" {
			s.Reason = "PF " + s.PCI + " is not back yet: it takes its driver long"
		}
		if s.State != Done {
			failed = append(failed, network.Again.Errorf("%s", s.Reason))
		}
	}
	return errors.Join(failed...)
}

func statusPath(stateDir string) string { return filepath.Join(stateDir, "provision.json") }

// ReadStatus returns what the agent of a node last wrote down as its Status.
func ReadStatus(stateDir string) ([]PFStatus, error) {
	raw, err := lockfile.Read(statusPath(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []PFStatus
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return nil, network.IO.Errorf("%s, which says how the PFs are: %w; the agent writes it anew when it starts", statusPath(stateDir), err)
	}
	return all, nil
}

// publish writes the status down if it is another than before, and says that
// it may be.
func (p *Provisioner) publish() {
	if p.writeStatus() {
		p.OnChange()
	}
}

// writeStatus reports whether the status is another than before. What could
// not be written is tried again, also when nothing changes.
func (p *Provisioner) writeStatus() (changed bool) {
	p.writing.Lock()
	defer p.writing.Unlock()
	status := p.Status()
	raw, err := json.Marshal(status)
	changed = !bytes.Equal(raw, p.status)
	if !changed && p.written {
		return false
	}
	_, statErr := os.Lstat(statusPath(p.StateDir))
	if err == nil && (len(status) > 0 || statErr == nil) {
		err = lockfile.ReplaceShared(statusPath(p.StateDir), raw, 0o600) // two agents may write it, in an upgrade
	}
	if err != nil && (changed || p.written) {
		p.Log.Warn("how the PFs are cannot be written down", "error", err.Error())
	}
	p.status, p.written = raw, err == nil
	return changed
}

// tell logs trouble with the records once.
func (p *Provisioner) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != p.told {
		p.Log.Warn("PFs that were set up before are not all known", "error", text)
	}
	p.told = text
}
