package nettest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Call is one call that the recorder got: one line of DIR/calls.jsonl.
type Call struct {
	Verb        string            `json:"verb"`
	ContainerID string            `json:"containerID"`
	IfName      string            `json:"ifname"`
	Netns       string            `json:"netns"`
	Args        string            `json:"args"`
	Path        string            `json:"path"`
	Type        string            `json:"type"`  // "type" of the configuration
	Name        string            `json:"name"`  // "name" of the configuration
	Stdin       string            `json:"stdin"` // the bytes as they came
	Pid         int               `json:"pid"`
	Env         map[string]string `json:"env"` // PATH, CNI_* and RECORDER_*, also when empty
}

// String shows what was called, and for what, in a few words.
func (c Call) String() string {
	return fmt.Sprintf("%s %s %s %s", c.Verb, c.Name, c.ContainerID, c.IfName)
}

// Calls reads what recorders that were configured with this dir were called
// with, in order. Before the first call there are none. A line that a recorder
// is writing is not there yet.
func Calls(dir string) ([]Call, error) {
	content, err := os.ReadFile(filepath.Join(dir, "calls.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	var calls []Call
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var call Call
		if err = json.Unmarshal(line, &call); err != nil {
			return nil, fmt.Errorf("decode call %d: %w", len(calls)+1, err)
		}
		calls = append(calls, call)
	}
	return calls, nil
}
