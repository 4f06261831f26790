package doctor

import (
	"context"
	"errors"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/multus"
)

// checkMultus is about the containers that Multus attached and multiplexer has
// to detach.
func (s *sight) checkMultus(context.Context) []Finding {
	dir := s.config.CNIDir
	if s.hidden(dir) {
		return []Finding{na("%s cannot be seen from here: run this on the node itself", dir)}
	}
	containers, err := multus.Containers(s.at(dir))
	if err != nil {
		return []Finding{warn("run this as root", "%s", err)}
	}
	var wrong []Finding
	living, hidden := 0, 0
	records := multus.NewReader(s.at(dir))
	for _, id := range containers {
		if slices.ContainsFunc(s.containers, func(c container) bool { return c.id == id }) {
			continue // its journal says how it is
		}
		switch f := s.judgeMultus(records, dir, id); {
		case f == nil:
			living++
		case f.State == NA:
			hidden++
		default:
			wrong = append(wrong, *f)
		}
	}
	const most = 5
	if len(wrong) > most {
		wrong = append(wrong[:most], warn("the same as above; ls "+dir+" names them", "%d more containers that Multus attached are like that", len(wrong)-most))
	}
	if hidden > 0 {
		wrong = append(wrong, na("%d containers that Multus attached: whether their pods live cannot be seen from here; run this on the node itself", hidden))
	}
	if len(containers) == 0 {
		return []Finding{na("no container that Multus attached is recorded in %s", dir)}
	}
	return orOK(wrong, "%d containers that Multus attached: multiplexer detaches them by the records in %s", living, dir)
}

// judgeMultus says what is wrong with one record of Multus, or nil.
func (s *sight) judgeMultus(records *multus.Reader, dir, id string) *Finding {
	record, err := records.Read(id, multus.Call{})
	if err != nil || record == nil {
		return nil // it was detached since
	}
	var f Finding
	switch {
	case len(record.Problems) > 0:
		f = warn("once its pod is deleted, see that no address of its networks stays, and remove the file",
			"container %s, which Multus attached: %s", short(id), errors.Join(record.Problems...))
	case record.Hidden(s.Root):
		f = na("the directory of its namespace cannot be seen from here")
	case record.Gone(s.Root):
		f = warn("a GC by the runtime releases it (CRI-O has one, containerd has none); by hand: give its addresses back, and remove its files in "+dir,
			"container %s, which Multus attached, is left over: its namespace is gone, its attachments (%d) are not", short(id), len(record.Attachments))
	default:
		return nil
	}
	return &f
}
