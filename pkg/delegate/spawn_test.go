package delegate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// script runs a shell script as a delegate would be.
func script(t *testing.T, ctx context.Context, text, stdin string) (string, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	// A child that another test forks meanwhile would hold the file open for
	// writing, and then it cannot be run ("text file busy").
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	r := &Runner{Stderr: &stderr}
	out, err := r.runProcess(ctx, path, []byte(stdin), []string{"PATH=" + os.Getenv("PATH"), "X=y"}, nil)
	return string(out), stderr.String(), err
}

func TestProcess(t *testing.T) {
	long := strings.Repeat("0123456789", 100_000)
	for name, c := range map[string]struct {
		script, stdin  string
		stdout, stderr string
		kind           error
		text           string
	}{
		"input and output":         {script: "cat; echo $X >&2", stdin: "in", stdout: "in", stderr: "y\n"},
		"more than a pipe holds":   {script: "cat", stdin: long, stdout: long},
		"stderr before stdout":     {script: "head -c 60000 /dev/zero >&2; echo out", stdout: "out\n", stderr: strings.Repeat("\x00", 60000)},
		"closes its output":        {script: "exec >&- 2>&-; sleep 0.3"},
		"closes its output, fails": {script: "exec >&- 2>&-; sleep 0.3; exit 4", text: "exit status 4"},
		"ends by a signal":         {script: "kill -9 $$", text: "signal: killed"},
		"CNI error":                {script: `echo '{"code": 11, "msg": "later"}'; exit 1`, text: "later"},
		"daemon with our pipes":    {script: "sleep 3 & echo done", stdout: "done\n"},
		"daemon that floods":       {script: "(for i in $(seq 20); do echo flood; sleep 0.1; done) & exit 0", stdout: "flood"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, err := script(t, t.Context(), c.script, c.stdin)
			if (err != nil) != (c.text != "") || (err != nil && !strings.Contains(err.Error(), c.text)) {
				t.Fatalf("error %v, want %q", err, c.text)
			}
			if err == nil && (!strings.HasPrefix(stdout, c.stdout) || stderr != c.stderr) {
				t.Errorf("printed %.80q and %.80q, want %.80q and %.80q", stdout, stderr, c.stdout, c.stderr)
			}
		})
	}
}

// What runs over is killed, with those of its group, whatever it does with
// its pipes.
func TestProcessOverTime(t *testing.T) {
	for name, text := range map[string]string{
		"sleeps":               "sleep 60",
		"has children":         "sleep 60 & sleep 60",
		"ignores the runtime":  "trap '' TERM INT; while :; do sleep 1; done",
		"closes its output":    "exec >&- 2>&-; sleep 60",
		"prints all the time":  "while :; do echo x; done",
		"leaves it to a child": "exec setsid -w sleep 60",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, _, err := script(t, ctx, text, "")
			if !errors.Is(err, network.Again) || time.Since(start) > 20*time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, _, err := script(t, ctx, "sleep 60", ""); err == nil || !strings.Contains(err.Error(), "told to end") {
		t.Errorf("%v", err)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	r := &Runner{Stderr: io.Discard}
	_, err := r.runProcess(t.Context(), filepath.Join(t.TempDir(), "none"), nil, nil, nil)
	if !errors.Is(err, network.IO) {
		t.Errorf("%v", err)
	}
	var cniErr *types.Error
	if errors.As(err, &cniErr) {
		t.Errorf("a failed start has no CNI code of a plugin's: %v", cniErr)
	}
	fds := func() int {
		open, readErr := os.ReadDir("/proc/self/fd")
		if readErr != nil {
			t.Fatal(readErr)
		}
		return len(open)
	}
	before := fds()
	for range 20 {
		_, _ = r.runProcess(t.Context(), "/no/such/plugin", nil, nil, nil)
		_, _, _ = script(t, t.Context(), "exit 3", "")
	}
	if after := fds(); after > before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}
