package journal

import (
	"encoding/json"
	"errors"
	"os"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Adopt starts a journal of a container that another program attached, from
// that program's files (Header.Adopted). It is one line, so that no kill leaves
// half of it: results are the attachments' in their order, nil where an ADD
// may have failed. What the file held before is thrown away.
func (e *Entry) Adopt(h Header, attachments []network.Attachment, results []json.RawMessage) error {
	e.torn = e.torn || e.size > 0
	e.Contents, e.size = Contents{}, 0
	return e.append(event{Event: evAdopt, Version: Version, Header: &h, Plan: attachments, Results: results})
}

func (c *Contents) applyAdopt(e event) {
	if e.Header == nil {
		return
	}
	c.Header, c.Opened, c.Records = *e.Header, e.Time, nil
	for i, a := range e.Plan {
		r := Record{Attachment: a, Step: Adding}
		if i < len(e.Results) && len(e.Results[i]) > 0 && string(e.Results[i]) != "null" {
			r.Step, r.Result = Added, slices.Clone(e.Results[i])
		}
		c.Records = append(c.Records, r)
	}
}

// RemoveAdopted removes the files that the journal was made from.
func (e *Entry) RemoveAdopted() error {
	var failed []error
	for _, path := range e.Header.Adopted {
		failed = append(failed, absentIsFine(os.Remove(path)))
	}
	if err := errors.Join(failed...); err != nil {
		return network.IO.Errorf("remove what another program recorded of the container: %w", err)
	}
	return nil
}
