package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Version is the format of the lines. A journal of a later version is left
// alone.
const Version = 1

// The events, as they are written. See docs/journal.md.
const (
	evOpen     = "open"     // the container: who, where, which boot
	evAdopt    = "adopt"    // the same of one that another program attached, and its attachments
	evPlan     = "plan"     // attachments that may be attempted
	evAdding   = "adding"   // attachment i's ADD is about to run
	evAdded    = "added"    // it succeeded, with this result
	evState    = "state"    // an embedded plugin's own record
	evRouting  = "routing"  // what the routing rules set, or are about to
	evReady    = "ready"    // ADD succeeded as a whole
	evRelease  = "release"  // from here on everything is undone
	evDetach   = "detach"   // from here on all but the cluster network is undone
	evDeleting = "deleting" // attachment i's DEL is about to run
	evDeleted  = "deleted"  // it succeeded
	evFailed   = "failed"   // it failed, and will be tried again
)

// Header says which container a journal is about.
type Header struct {
	Container string      `json:"container"`
	Network   string      `json:"network"` // the name of our own configuration
	IfName    string      `json:"ifname"`
	Netns     string      `json:"netns"`
	Cookie    uint64      `json:"cookie,omitempty"` // SO_NETNS_COOKIE; 0 where the kernel has none
	Boot      string      `json:"boot"`
	Pod       string      `json:"pod,omitempty"` // namespace/name
	UID       string      `json:"uid,omitempty"`
	Args      [][2]string `json:"args,omitempty"` // the runtime's CNI_ARGS
	Chained   bool        `json:"chained,omitempty"`
	// PrevResult is what stood before us in a chain: the cluster network's
	// part, which is not ours to undo.
	PrevResult json.RawMessage `json:"prevResult,omitempty"`
	// Adopted are another program's files that this journal was made from. They
	// go when nothing of the container is left.
	Adopted []string `json:"adopted,omitempty"`
}

// event is one line.
type event struct {
	Event   string               `json:"e"`
	Version int                  `json:"v,omitempty"`
	Time    time.Time            `json:"t"`
	Header  *Header              `json:"header,omitempty"`
	Plan    []network.Attachment `json:"plan,omitempty"`
	Results []json.RawMessage    `json:"results,omitempty"` // adopt: of each of plan, null = its ADD may have failed
	Index   int                  `json:"i,omitempty"`       // of the attachment; plan: of the first
	Result  json.RawMessage      `json:"result,omitempty"`
	Device  json.RawMessage      `json:"device,omitempty"` // added: the device's information
	State   []byte               `json:"state,omitempty"`
	Routing json.RawMessage      `json:"routing,omitempty"`
	Note    string               `json:"note,omitempty"` // release, detach: on whose order; failed: the error
}

// encodeLine writes "CRC32 JSON\n"; the checksum is over the JSON.
func encodeLine(e event) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode journal event %q: %w", e.Event, err)
	}
	return fmt.Appendf(nil, "%08x %s\n", checksum(body), body), nil
}

// checksum is the IEEE polynomial: Go sets Castagnoli's tables up for 0.2 ms,
// in each process.
func checksum(body []byte) uint32 { return crc32.ChecksumIEEE(body) }

// decodeLine reads one line without its newline.
func decodeLine(line []byte) (event, error) {
	var e event
	sum, body, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", checksum(body)) {
		return e, fmt.Errorf("checksum does not match")
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, fmt.Errorf("decode: %w", err)
	}
	return e, nil
}

// decodeLines reads a whole journal. It returns the events whose checksum
// holds, the length in bytes of the part that ends with a whole line, and how many
// lines before the last were damaged.
func decodeLines(data []byte) (events []event, whole int, damaged int) {
	rest := data
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break // torn: the writer died in the middle of it
		}
		e, err := decodeLine(rest[:end])
		if err != nil {
			damaged++
		} else {
			events = append(events, e)
		}
		rest = rest[end+1:]
		whole = len(data) - len(rest)
	}
	return events, whole, damaged
}
