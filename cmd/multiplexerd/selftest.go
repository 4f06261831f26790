package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// selfTest is what has to work before the runtime is pointed at the plugin.
type selfTest struct {
	Known  func() error // what the agent says of itself; nil = nothing
	Socket string       // of the agent; "" = the plugin asks none
	Plugin string       // the installed executable, as this process sees it
	Failed func(error)  // is told each failure; may be nil
}

// wait repeats the test until it succeeds or ctx ends.
func (t selfTest) wait(ctx context.Context) error {
	var before error
	for {
		err := t.try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && before != nil {
			return before // this try may have been cut short, and says nothing then
		}
		before = err
		if t.Failed != nil {
			t.Failed(err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (t selfTest) try(ctx context.Context) error {
	if t.Known != nil {
		if err := t.Known(); err != nil {
			return err
		}
	}
	if t.Socket != "" {
		// A container that has no journal: the agent looks, and changes nothing.
		request := agentapi.Request{Verb: agentapi.VerbPublish, Container: "self-test", Pod: agentapi.Pod{Namespace: "kube-system", Name: "self-test"}}
		if _, err := agentapi.Ask(ctx, t.Socket, request); err != nil {
			return fmt.Errorf(`%w; on a node without an agent, set agentSocket to "" (--set agentSocket=)`, err)
		}
	}
	return runsVersion(ctx, t.Plugin)
}

// runsVersion makes sure that the plugin can be executed on this node.
func runsVersion(ctx context.Context, plugin string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, plugin)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.WaitDelay = time.Second // a child of it may keep the pipe
	cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion":"1.0.0"}`))
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: it does not answer VERSION in time: %w", plugin, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("run %s: %w; see that its directory is not mounted noexec, and that it is built for this machine", plugin, err)
	}
	var answer struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err = json.Unmarshal(out, &answer); err != nil || !slices.Contains(answer.SupportedVersions, "1.0.0") {
		return fmt.Errorf("run %s: it does not answer VERSION as a CNI plugin does (%q)", plugin, bytes.TrimSpace(out))
	}
	return nil
}
