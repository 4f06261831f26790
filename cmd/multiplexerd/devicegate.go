package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// deviceGate keeps the device plugin closed while the node is being
// uninstalled: VFs go home then, and nobody is to make them again. An agent
// that hands out devices holds the state directory's lock, which uninstall
// waits for.
type deviceGate struct {
	stateDir, marker string
	log              *slog.Logger

	mu     sync.Mutex
	lock   *os.File // nil = closed
	logged bool
}

// runDevices makes the device plugin a part of the agent, behind the gate.
// What it returns is to be called when the agent has ended.
func (f *runFlags) runDevices(a *agent.Agent) (release func(), err error) {
	g := &deviceGate{stateDir: f.StateDir, marker: filepath.Join(f.StateDir, network.UninstallingFile), log: f.Log}
	a.Hold(g.wait)
	defer a.Hold(nil)
	if err = f.plugin.run(a, f); err != nil {
		return nil, err
	}
	a.With(func(ctx context.Context) error { return untilUninstalled(ctx, g.marker) })
	return g.release, nil
}

// wait returns when devices may be handed out.
func (g *deviceGate) wait(ctx context.Context) error {
	for {
		if open, err := g.open(); open || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// open tries to open the gate, for all parts at once.
func (g *deviceGate) open() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lock != nil {
		return true, nil
	}
	if err := os.MkdirAll(g.stateDir, 0o700); err != nil {
		return false, err
	}
	dir, err := os.Open(g.stateDir)
	if err != nil {
		return false, err
	}
	// Agents share the lock: a new one may take an old one's place. The marker
	// comes second: who wrote it waits for the lock after that.
	err = unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil && !exists(g.marker) {
		g.lock = dir
		return true, nil
	}
	if closeErr := dir.Close(); closeErr != nil || err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return false, errors.Join(err, closeErr)
	}
	if !g.logged {
		g.logged = true
		g.log.Warn("multiplexer is being uninstalled from this node, or was: no devices are offered, and PFs are left alone", "file", g.marker)
	}
	return false, nil
}

func (g *deviceGate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lock != nil {
		_ = g.lock.Close() // the lock ends with it, whatever Close says
		g.lock = nil
	}
}

// untilUninstalled ends the agent, which whoever runs it starts anew, when the
// node begins to be uninstalled.
func untilUninstalled(ctx context.Context, marker string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if exists(marker) {
			return fmt.Errorf("multiplexer is being uninstalled from this node (%s): the agent ends, and when it is started again it leaves devices alone", marker)
		}
	}
}
