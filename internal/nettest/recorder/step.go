package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// step is what the recorder does next: one of these keys, the others nil.
type step struct {
	Sleep      *string         `json:"sleep"`      // a duration
	Allocate   *bool           `json:"allocate"`   // takes an address; fails when there is a lease
	Free       *bool           `json:"free"`       // gives it back; none is fine
	Link       *bool           `json:"link"`       // makes a veth pair
	Unlink     *bool           `json:"unlink"`     // removes it; none is fine
	CheckLink  *bool           `json:"checkLink"`  // fails when the link or its address is missing
	Touch      *string         `json:"touch"`      // makes an empty file in DIR
	WaitFor    *string         `json:"waitFor"`    // waits until that file is in DIR
	Stdout     *string         `json:"stdout"`     // writes text
	Stderr     *string         `json:"stderr"`     // writes text
	Result     json.RawMessage `json:"result"`     // prints it as it stands
	Error      *types.Error    `json:"error"`      // prints it and exits 1
	FailOnce   *types.Error    `json:"failOnce"`   // the same, for each container and interface once
	Exit       *int            `json:"exit"`       // ends at once
	Signal     *int            `json:"signal"`     // sends it to itself
	IgnoreTerm *bool           `json:"ignoreTerm"` // from here on
	Fork       *string         `json:"fork"`       // leaves a child, in a session of its own, for a duration
	ForkGroup  *string         `json:"forkGroup"`  // the same, in the recorder's process group
}

// maxWait ends a waitFor that nobody answers: a test that died must not leave
// recorders behind.
const maxWait = 2 * time.Minute

// step runs the i-th step of the verb.
func (c *call) step(i int, raw json.RawMessage) error {
	s, err := parseStep(raw)
	if err != nil {
		return cniError(codeConfig, "step %d of %s: %v", i, c.verb, err)
	}
	switch {
	case s.Sleep != nil:
		return sleep(*s.Sleep)
	case s.Allocate != nil:
		return c.allocate()
	case s.Free != nil:
		return c.free()
	case s.Link != nil:
		return c.link()
	case s.Unlink != nil:
		return c.unlink()
	case s.CheckLink != nil:
		return c.checkLink()
	case s.Touch != nil:
		return c.touch(*s.Touch)
	case s.WaitFor != nil:
		return c.waitFor(*s.WaitFor)
	case s.Fork != nil:
		return leaveChild(*s.Fork, &syscall.SysProcAttr{Setsid: true})
	case s.ForkGroup != nil:
		return leaveChild(*s.ForkGroup, nil)
	case s.FailOnce != nil:
		return c.failOnce(i, s.FailOnce)
	}
	return c.answer(s)
}

// answer runs the steps that decide what the caller sees.
func (c *call) answer(s step) error {
	switch {
	case s.Stdout != nil:
		return c.print(*s.Stdout)
	case s.Stderr != nil:
		fmt.Fprint(os.Stderr, *s.Stderr)
	case s.Result != nil:
		return c.print(string(s.Result))
	case s.Error != nil:
		return s.Error
	case s.Exit != nil:
		os.Exit(*s.Exit)
	case s.IgnoreTerm != nil:
		signal.Ignore(syscall.SIGTERM)
	case s.Signal != nil:
		if err := syscall.Kill(os.Getpid(), syscall.Signal(*s.Signal)); err != nil {
			return cniError(codeIO, "send signal: %v", err)
		}
		// It arrives at any thread; do nothing more until then.
		time.Sleep(time.Second)
	}
	return nil
}

// parseStep insists on exactly one key that it knows: a misspelt step would
// otherwise be a test that tests nothing.
func parseStep(raw json.RawMessage) (step, error) {
	var s step
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return s, err
	}
	if len(keys) != 1 {
		return s, fmt.Errorf("%d keys instead of one in %s", len(keys), raw)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	return s, decoder.Decode(&s)
}

func sleep(duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return cniError(codeConfig, "%v", err)
	}
	time.Sleep(d)
	return nil
}

func (c *call) touch(name string) error {
	file, err := os.Create(filepath.Join(c.conf.Dir, name))
	if err != nil {
		return cniError(codeIO, "touch: %v", err)
	}
	return file.Close()
}

func (c *call) waitFor(name string) error {
	for start := time.Now(); time.Since(start) < maxWait; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(c.conf.Dir, name)); err == nil {
			return nil
		}
	}
	return cniError(codeIO, "nobody made %s within %s", name, maxWait)
}

// failOnce fails when this step runs for the first time for this container,
// interface and network.
func (c *call) failOnce(i int, failure *types.Error) error {
	name := fmt.Sprintf("%s-%s-%s-%d", c.verb, c.conf.Name, c.leaseKey(), i)
	path := filepath.Join(c.conf.Dir, "failed", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return cniError(codeIO, "make state: %v", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return cniError(codeIO, "write state: %v", err)
	}
	_ = file.Close()
	return failure
}

// holdArg makes the recorder the child that only waits.
const holdArg = "hold"

// leaveChild starts a child that outlives us and keeps every file that we
// inherited open, as a daemon does that a plugin starts.
func leaveChild(duration string, attr *syscall.SysProcAttr) error {
	self, err := os.Executable()
	if err != nil {
		return cniError(codeIO, "find myself: %v", err)
	}
	child, err := os.StartProcess(self, []string{"recorder-child", holdArg, duration}, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   attr,
	})
	if err != nil {
		return cniError(codeIO, "start child: %v", err)
	}
	return child.Release()
}
