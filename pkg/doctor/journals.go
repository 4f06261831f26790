package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// container is a journal as it was read; contents is nil where it could not be.
type container struct {
	id       string
	contents *journal.Contents
	err      error
}

// seeContainers reads all journals.
func (s *sight) seeContainers() {
	ids, err := s.store.Containers()
	if err != nil {
		s.storeErr = err
		return
	}
	for _, id := range ids {
		contents, rerr := s.store.Read(id)
		if !errors.Is(rerr, journal.ErrAbsent) { // else it was released since
			s.containers = append(s.containers, container{id, contents, rerr})
		}
	}
}

// checkJournals names what is left over, and what cannot be undone.
func (s *sight) checkJournals(context.Context) []Finding {
	if s.storeErr != nil {
		return []Finding{fail("run this as root", "%s", s.storeErr)}
	}
	boot, err := podns.BootID(s.BootIDPath)
	if err != nil {
		return []Finding{fail("mount the node's /proc", "%s", err)}
	}
	marked, err := s.store.ToRelease()
	if err != nil {
		return []Finding{fail("run this as root", "%s", err)}
	}
	var wrong []Finding
	hidden := 0
	for i := range s.containers {
		c := &s.containers[i]
		life := gone
		if c.contents != nil {
			life = s.life(c.contents.Header.Ref(), boot)
		}
		switch f := s.judge(c, life, marked); {
		case f != nil:
			wrong = append(wrong, *f)
		case life == unknown:
			hidden++
		}
	}
	if hidden > 0 {
		wrong = append(wrong, na("%d containers: whether their pods live cannot be seen from here; run this on the node itself", hidden))
	}
	return orOK(wrong, "%d containers, nothing left over", len(s.containers))
}

// judge says what is wrong with one container, or nil.
func (s *sight) judge(c *container, life life, marked []string) *Finding {
	if c.err != nil {
		remedy := "upgrade the plugin on this node if it is of a later format; else delete the pod"
		if lockfile.Irregular(c.err) {
			remedy = "see who made it, and remove it"
		}
		f := fail(remedy, "container %s: %s", short(c.id), c.err)
		return &f
	}
	j := c.contents
	who := short(c.id)
	if j.Header.Pod != "" {
		who += " (" + j.Header.Pod + ")"
	}
	const retried = "it is tried again by the plugin's next calls; "
	var f Finding
	switch {
	case j.Busy: // one that was just made says nothing yet
		return nil
	case !j.Usable():
		f = fail("delete its pod: what its annotations ask for is detached", "container %s: its journal is damaged", short(c.id))
	case j.Hides():
		f = judgeHidden(j, who, life)
	case j.Releasing != "" && j.Failures > 0, j.Detaching != "" && j.Failures > 0:
		f = fail(retried+"correct what the error names", "container %s: its release failed %d times: %s", who, j.Failures, lastErrors(j))
	case j.Releasing != "":
		f = warn(retried+"if it stays, see the runtime's log", "container %s: %s", who, j.State())
	case life == gone:
		f = warn(s.released(c.id, marked), "container %s is left over: its namespace is gone, and %s not", who, attachments(j))
	case !j.Complete:
		f = warn("the runtime repeats the ADD or deletes the sandbox; if it stays, delete the pod", "container %s: %s", who, j.State())
	case j.Damaged > 0:
		f = warn("see that the disk is well; nothing else, the rest of it will do", "container %s: %d lines of its journal are damaged", who, j.Damaged)
	default:
		return nil
	}
	return &f
}

// released says what releases a container that is left over.
func (s *sight) released(id string, marked []string) string {
	const agent = "; see that the agent runs"
	alone := s.config.AgentSocket == ""
	switch is := slices.Contains(marked, id); {
	case is && alone:
		return "the plugin releases it with its next calls"
	case is:
		return "the plugin releases it with its next calls" + agent
	case alone:
		return "the runtime's DEL or GC releases it (CRI-O has a GC, containerd has none); by hand: touch " + filepath.Join(s.stateDir(), "release", id) + ", and the plugin does with its next DEL, GC or STATUS"
	}
	return "the agent marks it for release within two sweeps, and the plugin releases it then" + agent
}

// judgeHidden says the same of one whose journal lacks a plan line: no call but
// its own DEL releases it.
func judgeHidden(j *journal.Contents, who string, life life) Finding {
	const remedy = "delete its pod: a plan line of its journal is damaged, and only a DEL of its own releases it"
	switch {
	case j.Releasing != "":
		return fail(remedy, "container %s: %s: %s", who, j.State(), lastErrors(j))
	case life == gone:
		return fail(remedy, "container %s is left over: its namespace is gone, and %s not", who, attachments(j))
	}
	return warn("see that the disk is well; the pod's DEL detaches what its annotations say then", "container %s: a plan line of its journal is damaged, so not all that it has is known", who)
}

func attachments(j *journal.Contents) string {
	n := 0
	for i := range j.Records {
		if j.Records[i].Attempted() {
			n++
		}
	}
	if n == 1 {
		return "its 1 attachment is"
	}
	return fmt.Sprintf("its %d attachments are", n)
}

// lastErrors are those of the attachments that could not be detached.
func lastErrors(j *journal.Contents) string {
	var out []string
	for i := range j.Records {
		if r := &j.Records[i]; r.Error != "" {
			out = append(out, r.String()+": "+strings.Join(strings.Fields(r.Error), " "))
		}
	}
	if len(out) == 0 {
		return "no attachment's error is recorded"
	}
	return strings.Join(out, "; ")
}

// short is a container ID as crictl prints it.
func short(id string) string {
	if len(id) > 13 {
		return id[:13]
	}
	return id
}
