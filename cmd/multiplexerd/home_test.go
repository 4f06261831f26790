package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
)

// VFs go home only when no agent hands them out any more.
func TestHomeWaitsForAgents(t *testing.T) {
	state := t.TempDir()
	agent, err := os.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	if err = unix.Flock(int(agent.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	f := &homeFlags{sys: filepath.Join(state, "sys")}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	if err = f.home(soon, state, log); !errors.Is(err, lockfile.ErrBusy) || !strings.Contains(err.Error(), "end it, and uninstall again") {
		t.Errorf("an agent is at work: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.home(t.Context(), state, log) }()
	if err = agent.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for nobody")
	}
	entries, err := os.ReadDir(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left %s", e.Name())
	}
}

// The gate opens when nobody uninstalls the node any more.
func TestDeviceGate(t *testing.T) {
	state := t.TempDir()
	var log bytes.Buffer
	g := &deviceGate{stateDir: state, marker: filepath.Join(state, "uninstalling"), log: slog.New(slog.NewTextHandler(&log, nil))}
	is := func(want bool) {
		t.Helper()
		if open, err := g.open(); err != nil || open != want {
			t.Errorf("open: %t, %v", open, err)
		}
	}
	if err := os.WriteFile(g.marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is(false)
	is(false)
	if n := strings.Count(log.String(), g.marker); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	uninstall, err := os.Open(state)
	if err == nil {
		err = errors.Join(unix.Flock(int(uninstall.Fd()), unix.LOCK_EX), os.Remove(g.marker))
	}
	if err != nil {
		t.Fatal(err)
	}
	is(false)
	if err = uninstall.Close(); err != nil {
		t.Fatal(err)
	}
	is(true)
	other := &deviceGate{stateDir: state, marker: g.marker, log: g.log}
	if open, oerr := other.open(); !open || oerr != nil {
		t.Errorf("a second agent: %t, %v", open, oerr)
	}
	other.release()
	is(true)
	g.release()
	within, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err = os.WriteFile(g.marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err = g.wait(within); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waits: %v", err)
	}
}

// The marker ends the agent that began without it, soon.
func TestUntilUninstalled(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "uninstalling")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- untilUninstalled(ctx, marker) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	within, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	if err := untilUninstalled(within, marker); err == nil || !strings.Contains(err.Error(), marker) {
		t.Errorf("%v", err)
	}
}
