package nettest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"syscall"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// Outcome is what a plugin left when it ended.
type Outcome struct {
	Stdout, Stderr []byte
	ExitCode       int            // -1 when a signal ended it
	Signal         syscall.Signal // 0 when it ended by itself
	OutputHeld     bool           // a process that it left behind kept its stdout or stderr open
}

// CNIError is the error that a plugin prints on stdout.
type CNIError struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// String shows the error in one line; a nil error is "no error".
func (e *CNIError) String() string {
	if e == nil {
		return "no error"
	}
	return fmt.Sprintf("code %d: %s; %s (cniVersion %q)", e.Code, e.Msg, e.Details, e.CNIVersion)
}

// Error returns the plugin's error, or nil after success. A failure without a
// CNI error on stdout has code 0 and says what there was instead.
func (o Outcome) Error() *CNIError {
	if o.ExitCode == 0 {
		return nil
	}
	var e CNIError
	if err := json.Unmarshal(o.Stdout, &e); err != nil || e.Code == 0 {
		return &CNIError{Msg: "no CNI error on stdout", Details: o.String()}
	}
	return &e
}

// Result returns the plugin's result as the newest version that we know,
// whichever version it was printed in.
func (o Outcome) Result() (*types100.Result, error) {
	if o.ExitCode != 0 {
		return nil, fmt.Errorf("plugin failed: %s", o.Error())
	}
	result, err := create.CreateFromBytes(o.Stdout)
	if err != nil {
		return nil, fmt.Errorf("decode result %q: %w", o.Stdout, err)
	}
	newest, err := types100.GetResult(result)
	if err != nil {
		return nil, fmt.Errorf("convert result: %w", err)
	}
	return newest, nil
}

// String shows the whole outcome, for messages of failing tests.
func (o Outcome) String() string {
	end := fmt.Sprintf("exit %d", o.ExitCode)
	if o.Signal != 0 {
		end = "signal " + o.Signal.String()
	}
	if o.OutputHeld {
		end += ", output held open"
	}
	return fmt.Sprintf("%s\nstdout: %s\nstderr: %s", end, bytes.TrimSpace(o.Stdout), bytes.TrimSpace(o.Stderr))
}
