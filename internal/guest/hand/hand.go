package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

// hand has the calls, as net/rpc wants them.
type hand struct {
	mu      sync.Mutex
	daemons map[string]*daemon
}

// daemon is a process that runs on.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func newHand() *hand { return &hand{daemons: map[string]*daemon{}} }

// Ping answers.
func (*hand) Ping(struct{}, *struct{}) error { return nil }

// Run runs a command to its end.
func (*hand) Run(c guest.Command, o *guest.Outcome) error {
	ctx := context.Background()
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	cmd := command(ctx, c)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	*o = guest.Outcome{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Status: cmd.ProcessState.ExitCode()}
	return nil
}

func command(ctx context.Context, c guest.Command) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	return cmd
}

// Launch starts a daemon whose name no other one has.
func (h *hand) Launch(d guest.Daemon, _ *struct{}) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if running := h.daemons[d.Name]; running != nil {
		return fmt.Errorf("%s runs already", d.Name)
	}
	if err := os.MkdirAll(guest.LogDir, 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(guest.LogDir, d.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	started := &daemon{cmd: command(context.Background(), d.Command), ended: make(chan struct{})}
	started.cmd.Stdin = nil
	started.cmd.Stdout, started.cmd.Stderr = log, log
	if err = started.cmd.Start(); err != nil {
		return err
	}
	h.daemons[d.Name] = started
	go func() {
		waitErr := started.cmd.Wait()
		close(started.ended)
		fmt.Fprintf(os.Stderr, "%s has ended: %v\n", d.Name, waitErr)
	}()
	return nil
}

// Kill kills a daemon and waits for its end.
func (h *hand) Kill(name string, _ *struct{}) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.daemons[name]
	if d == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.ended
	delete(h.daemons, name)
	return nil
}

// Read reads a file.
func (*hand) Read(path string, content *[]byte) (err error) {
	*content, err = os.ReadFile(path)
	return err
}

// Write writes a file, with the directories above it.
func (*hand) Write(f guest.File, _ *struct{}) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(f.Path, f.Content, f.Mode)
}

// Glob finds paths.
func (*hand) Glob(pattern string, paths *[]string) (err error) {
	*paths, err = filepath.Glob(pattern)
	return err
}

// Readlink reads a link.
func (*hand) Readlink(path string, to *string) (err error) {
	*to, err = os.Readlink(path)
	return err
}
