package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// record is one line of calls.jsonl; nettest.Call reads it.
type record struct {
	Verb        string            `json:"verb"`
	ContainerID string            `json:"containerID"`
	IfName      string            `json:"ifname"`
	Netns       string            `json:"netns"`
	Args        string            `json:"args"`
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	Stdin       string            `json:"stdin"`
	Pid         int               `json:"pid"`
	Env         map[string]string `json:"env"`
}

// record appends the call to calls.jsonl before anything else happens.
func (c *call) record(stdin []byte) error {
	r := record{
		Verb:        c.verb,
		ContainerID: c.containerID,
		IfName:      c.ifname,
		Netns:       c.netns,
		Args:        os.Getenv("CNI_ARGS"),
		Path:        os.Getenv("CNI_PATH"),
		Type:        c.conf.Type,
		Name:        c.conf.Name,
		Stdin:       string(stdin),
		Pid:         os.Getpid(),
		Env:         map[string]string{},
	}
	for _, v := range os.Environ() {
		key, value, _ := strings.Cut(v, "=")
		if key == "PATH" || strings.HasPrefix(key, "CNI_") || strings.HasPrefix(key, "RECORDER_") {
			r.Env[key] = value
		}
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // for the people who read the file
	if err := encoder.Encode(r); err != nil {
		return cniError(codeIO, "encode call: %v", err)
	}
	if err := os.MkdirAll(c.conf.Dir, 0o755); err != nil {
		return cniError(codeIO, "make dir: %v", err)
	}
	file, err := os.OpenFile(filepath.Join(c.conf.Dir, "calls.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return cniError(codeIO, "open record: %v", err)
	}
	// One write: calls that run at the same time do not mix.
	if _, err = file.Write(line.Bytes()); err != nil {
		return cniError(codeIO, "write record: %v", err)
	}
	return file.Close()
}
