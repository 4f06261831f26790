package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// job is one try at one PF.
type job struct {
	*Provisioner
	target *target
	pci    string
	found  int // the target's
	wish   *resource.PF
	since  time.Time          // the PF's VFs are withheld; zero: they are offered
	before map[string]waiting // VFs that are withheld by themselves

	pf        *sriov.PF
	host      sriov.Netns
	record    *Record
	kept      []byte            // what the record's file has
	allocated map[string]string // kubelet's word; nil until it was asked
	asked     time.Time         // when it was
	whole     bool
	waiting   map[string]waiting
	inside    bool // the kernel, by the provisioner's lock
}

// job begins a try. The provisioner's lock is held.
func (p *Provisioner) job(t *target) *job {
	j := &job{Provisioner: p, target: t, pci: t.pci, found: t.found, wish: t.wish, since: t.since, before: maps.Clone(t.waiting), waiting: map[string]waiting{}}
	maps.Copy(j.waiting, t.waiting) // until they are looked at
	if j.whole = t.whole; t.whole {
		j.since = time.Time{}
	}
	return j
}

// heldError says that something is somebody's and is left alone for now.
type heldError struct {
	why   string
	again time.Duration // 0 = as usual
}

func (e *heldError) Error() string { return e.why }

// pfPatience is how long another call's work on the PF is waited for.
const pfPatience = 5 * time.Second

// do does it, with the PF's lock.
func (j *job) do(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, pfPatience)
	defer cancel()
	unlock, err := j.Claims.Lock(patience, j.pci)
	if err != nil {
		return err
	}
	defer unlock()
	if !j.wished() {
		return &heldError{why: fmt.Sprintf("something else is wished of PF %s by now", j.pci)}
	}
	// What another agent did until it let go of the lock counts.
	if j.record, err = j.Provisioner.record(j.pci); err != nil {
		return err
	}
	if j.wish == nil && (j.record == nil || j.record.Boot != j.boot) {
		return j.end() // the boot has undone the rest
	}
	if j.pf, err = j.Sys.PF(j.pci); err != nil {
		return &heldError{why: fmt.Sprintf("PF %s is not on the node", j.pci)}
	}
	holder, err := j.Claims.Holder(j.pci, sriov.Holding{Boot: j.boot, Lives: j.Lives})
	if err == nil && holder != "" {
		err = &heldError{why: fmt.Sprintf("PF %s itself is held by %s", j.pci, holder)}
	}
	if err != nil {
		return err
	}
	if j.host, err = j.Kernel.Open(""); err != nil {
		return err
	}
	defer j.host.Close()
	if j.wish == nil {
		return j.undo(ctx)
	}
	return j.apply(ctx)
}

// wished reports whether what the try is about is still wished.
func (j *job) wished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current()
}

// current is wished, with the provisioner's lock.
func (j *job) current() bool {
	return slices.Contains(j.targets, j.target) && j.target.pci == j.pci && j.target.found == j.found
}

// finish takes a try's outcome over.
func (p *Provisioner) finish(t *target, j *job, err error) {
	p.mu.Lock()
	if !j.current() {
		p.mu.Unlock()
		return
	}
	now := p.Now()
	if t.whole != j.whole && !j.whole {
		t.since = now
	}
	for vf, w := range j.waiting {
		if w.since.IsZero() { // it was offered until now
			w.since = now
			j.waiting[vf] = w
		}
	}
	t.whole, t.waiting = j.whole, j.waiting
	var held *heldError
	state, reason, pause := Done, "", resync
	switch {
	case errors.As(err, &held):
		state, reason = Waiting, held.why
		if pause = held.again; pause == 0 {
			pause = t.patience(p.Retry)
		}
	case err != nil:
		state, reason = Failed, err.Error()
		pause = p.Retry << min(t.tries, 6)
		t.tries++
	case len(j.waiting) > 0:
		state, pause = Waiting, t.patience(p.Retry)
		for _, vf := range slices.Sorted(maps.Keys(j.waiting)) {
			if reason == "" {
				reason = "VF " + vf + " " + j.waiting[vf].why
			}
			if at := j.waiting[vf].since.Add(p.Grace).Sub(now); at > 0 {
				pause = min(pause, at)
			}
		}
	default:
		t.tries = 0
	}
	t.due = now.Add(pause)
	was := t.status
	t.set(state, reason, now)
	if t.status.Since != was.Since || was.State != state {
		p.log(t)
	}
	p.mu.Unlock()
	p.publish()
}

// patience is the time until the next look at what a pod has. It grows: a pod
// that ends is seen by its device's coming back, too.
func (t *target) patience(retry time.Duration) time.Duration {
	pause := absence * retry << min(t.tries, 3)
	t.tries++
	return pause
}

// log says what has become of a PF.
func (p *Provisioner) log(t *target) {
	s := &t.status
	attrs := []any{"pf", s.Name, "pci", s.PCI, "state", string(s.State), "vfs", s.NumVFs}
	if s.Undo {
		attrs = append(attrs, "undo", true)
	}
	if s.State == Done {
		p.Log.Info("PF is set up", attrs...)
		return
	}
	p.Log.Warn("PF is not set up yet", append(attrs, "reason", s.Reason)...)
}

// patiently does something that a driver may hang in, and says so. The try
// goes on: nothing can end a write that the kernel has begun, and nothing else
// may be done to the PF meanwhile.
func (j *job) patiently(what string, do func() error) error {
	j.deep(true)
	defer j.deep(false)
	late := time.AfterFunc(j.Timeout, func() { j.hangs(what) })
	defer late.Stop()
	return do()
}

func (j *job) deep(inside bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inside = inside
}

// hangs says that a driver does not come back.
func (j *job) hangs(what string) {
	j.mu.Lock()
	if j.inside && slices.Contains(j.targets, j.target) {
		now := j.Now()
		j.target.set(Failed, fmt.Sprintf("%s has not ended after %s: driver %s hangs; the kernel's log may say why, and nothing else is done to PF %s until it ends", what, j.Timeout, j.pf.Driver, j.pci), now)
		j.log(j.target)
	}
	j.mu.Unlock()
	j.publish()
}

// await waits until nothing is missing any more.
func (j *job) await(ctx context.Context, missing func() string) error {
	giveUp := time.NewTimer(j.Timeout)
	defer giveUp.Stop()
	const first, most = 10 * time.Millisecond, 250 * time.Millisecond
	for pause := first; ; pause = min(2*pause, most) {
		what := missing()
		if what == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-giveUp.C:
			return network.IO.Errorf("PF %s: after %s there is still missing: %s; the kernel's log may say why", j.pci, j.Timeout, what)
		case <-time.After(pause):
		}
	}
}

// keep writes the record down, if it is another than before.
func (j *job) keep() error {
	raw, err := json.Marshal(j.record)
	if err != nil {
		return fmt.Errorf("encode a PF's record: %w", err)
	}
	if bytes.Equal(raw, j.kept) {
		return nil
	}
	if err = j.save(j.pci, raw); err == nil {
		j.kept = raw
	}
	return err
}
