package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const (
	maxOutput = 4 << 20  // bytes of a delegate's standard output
	maxStderr = 64 << 10 // bytes of its standard error that are passed on
	// busyFor is how long an executable that is being replaced is waited for.
	busyFor = 10 * time.Second
)

// runProcess runs one executable. When ctx ends first, the process is killed
// with its whole group.
func (r *Runner) runProcess(ctx context.Context, path string, stdin []byte, environ []string, guard *os.File) ([]byte, error) {
	giveUp := time.Now().Add(busyFor)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		out, err := r.runOnce(ctx, path, stdin, environ, guard)
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(giveUp) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(pause):
		}
	}
}

func (r *Runner) runOnce(ctx context.Context, path string, stdin []byte, environ []string, guard *os.File) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, network.Again.Errorf("was not started: no time is left, or multiplexer was told to end")
	}
	stdout, stderr := limited{most: maxOutput}, limited{most: maxStderr, also: r.Stderr}
	p, err := spawn(path, stdin, environ, guard)
	if err != nil {
		return nil, network.IO.Errorf("start %s: %w", path, err)
	}
	status, err := p.follow(ctx, &stdout, &stderr)
	switch {
	case err != nil:
		return nil, network.IO.Errorf("run %s: %w", path, err)
	case status.Exited() && status.ExitStatus() == 0 && stdout.over:
		return nil, network.Malformed.Errorf("printed more than %d bytes", maxOutput)
	case status.Exited() && status.ExitStatus() == 0:
		return stdout.kept, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, network.Again.Errorf("was killed with its process group, since multiplexer was told to end%s", said(&stderr))
	case ctx.Err() != nil:
		return nil, network.Again.Errorf("ran out of time and was killed with its process group (\"timeout\" in multiplexer's configuration)%s", said(&stderr))
	}
	return nil, failure(status, &stdout, &stderr)
}

// failure reads what a failed plugin printed: a CNI error, which is returned
// as it is, or anything else, of which the error tells.
func failure(status syscall.WaitStatus, stdout, stderr *limited) error {
	var e types.Error
	if json.Unmarshal(stdout.kept, &e) == nil && (e.Code != 0 || e.Msg != "") {
		if e.Code == 0 {
			e.Code = types.ErrInternal
		}
		return &e
	}
	printed := "nothing"
	if len(stdout.kept) > 0 {
		printed = fmt.Sprintf("%q, which is no CNI error", short(string(stdout.kept)))
	}
	how := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		how = "signal: " + status.Signal().String()
	}
	return fmt.Errorf("failed (%s) and printed %s%s", how, printed, said(stderr))
}

// said quotes standard error.
func said(stderr *limited) string {
	if text := strings.TrimSpace(string(stderr.kept)); text != "" {
		return fmt.Sprintf("; on standard error: %q", short(text))
	}
	return ""
}

func short(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// limited keeps the first `most` bytes and drops the rest. What it keeps is
// passed on to `also`, whose errors are nobody's fault here. It is a Writer
// and no more: io.Copy would go past Write to a buffer's ReadFrom.
type limited struct {
	kept []byte
	most int
	over bool
	also io.Writer
}

func (l *limited) Write(p []byte) (int, error) {
	keep := p
	if room := l.most - len(l.kept); len(p) > room {
		l.over = true
		keep = p[:room]
	}
	l.kept = append(l.kept, keep...)
	if l.also != nil {
		_, _ = l.also.Write(keep)
	}
	return len(p), nil
}

// classify drops libcni's own words around a plugin's error, and gives
// libcni's errors, which have no type, a kind.
func classify(err error) error {
	var plugin *pluginError
	if errors.As(err, &plugin) {
		return plugin
	}
	var kind network.Kind
	if errors.As(err, &kind) {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return network.IO.Errorf("libcni's scratch directory (cache in stateDir of multiplexer's configuration): %w", path)
	}
	return network.Invalid.Errorf("libcni: %w", err) // what it refuses by itself
}
