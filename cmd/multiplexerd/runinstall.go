package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// keeperFlags are the flags by which `run` installs.
type keeperFlags struct {
	installFlags
	on                bool
	installation      string
	podNamespace, pod string // our own pod, if we are in one
}

func (f *keeperFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.on, "install", false, "put plugin and configuration onto the node, and keep them there")
	f.installFlags.add(flags)
	flags.StringVar(&f.installation, "installation", "", "whose installation this is: one that was uninstalled does not come back by itself; without it, the UID of the DaemonSet of the pod $POD_NAMESPACE/$POD_NAME, and \""+nodesOwn+"\" outside of a pod")
	f.podNamespace, f.pod = os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
}

// idle are the flags that say what to install, where nothing is installed.
func (f *keeperFlags) idle() (flags []string) {
	if !f.on && f.options != "" {
		flags = append(flags, "--options")
	}
	if !f.on && len(f.set) > 0 {
		flags = append(flags, "--set")
	}
	return flags
}

// run makes the installation a part of the agent, if it is asked for.
func (f *keeperFlags) run(a *agent.Agent, r *runFlags) error {
	events := installEvents()
	if err := a.Collect(events); err != nil || !f.on {
		return err
	}
	k := &keeper{flags: f, daemonSet: a.DaemonSet, log: r.Log.With("part", "install"), waits: errNotInstalled}
	var err error
	if k.Installer, err = f.installer(k.log); err != nil {
		return err
	}
	if err = k.agree(r.StateDir, r.Socket); err != nil {
		return err
	}
	k.Tell = func(e install.Event) {
		k.write(e)
		if e.Reason == install.ClusterMissing {
			k.note(errors.New(e.Message))
		}
		a.NodeEvent(e.Warning, string(e.Reason), e.File+": "+e.Message)
		events.WithLabelValues(string(e.Reason)).Inc()
	}
	k.test = selfTest{Known: a.Known, Socket: r.Socket, Plugin: f.at(filepath.Join(k.Paths.BinDir, install.PluginName)), Failed: k.note}
	a.Require(k.installed)
	a.With(k.keep)
	return nil
}

// installEvents counts what install tells. Every reason is there from the start.
func installEvents() *prometheus.CounterVec {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "multiplexer_install_events_total", Help: "What happened to plugin and configuration on this node, by reason.",
	}, []string{"reason"})
	for _, reason := range install.Reasons() {
		events.WithLabelValues(string(reason))
	}
	return events
}

// keeper installs multiplexer and keeps it on the node.
type keeper struct {
	*install.Installer
	flags     *keeperFlags
	daemonSet func(ctx context.Context, namespace, pod string) (uid string, created time.Time, err error)
	test      selfTest
	log       *slog.Logger

	mu    sync.Mutex
	waits error  // what installing waits for; nil = it was installed
	said  string // the last error that the log has
}

var errNotInstalled = errors.New("multiplexer is not installed on this node yet")

// agree makes the plugin's configuration name the agent's own directory and
// socket.
func (k *keeper) agree(stateDir, socket string) error {
	config, err := configOf(k.Installer)
	if err != nil {
		return err
	}
	keys := map[string]json.RawMessage{}
	if err = json.Unmarshal(k.Options, &keys); err != nil {
		return err
	}
	for _, one := range []struct{ key, flag, have, want string }{
		{"stateDir", "--state-dir", config.StateDir, stateDir},
		{"agentSocket", "--socket", config.AgentSocket, socket},
	} {
		if one.have == one.want {
			continue
		}
		if _, given := keys[one.key]; given {
			return fmt.Errorf("%s of the plugin's options is %q, and %s is %q: they have to be the same", one.key, one.have, one.flag, one.want)
		}
		if keys[one.key], err = json.Marshal(one.want); err != nil {
			return err
		}
	}
	k.Options, err = json.Marshal(keys)
	return err
}

// keep installs, and goes on until ctx ends. What stands in the way of it is
// told, and ends no agent: pods that are attached still need it.
func (k *keeper) keep(ctx context.Context) error {
	for {
		err := k.install(ctx)
		if ctx.Err() != nil {
			return nil
		}
		k.ended(err)
		if err == nil {
			return k.Follow(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
}

// retry is the pause before an installation that failed is tried again.
const retry = 5 * time.Second

func (k *keeper) install(ctx context.Context) error {
	if err := k.identify(ctx); err != nil {
		return err
	}
	return k.Install(ctx, k.test.wait)
}

// nodesOwn is whose the installation of an agent is that runs outside of a pod:
// started again after an uninstall, it is the same one.
const nodesOwn = "agent"

// identify finds out whose this installation is.
func (k *keeper) identify(ctx context.Context) error {
	switch {
	case k.Installation != "":
	case k.flags.installation != "":
		k.Installation = k.flags.installation
	case k.flags.pod != "":
		uid, created, err := k.daemonSet(ctx, k.flags.podNamespace, k.flags.pod)
		if err != nil {
			return fmt.Errorf("find the DaemonSet that this installation is of: %w", err)
		}
		k.Installation, k.Created = uid, created
	case !inPod():
		k.Installation = nodesOwn
	}
	return nil
}

// note keeps what an installation waits for, for /readyz. Once it was in
// place, only what is missing now counts.
func (k *keeper) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waits != nil {
		k.waits = fmt.Errorf("%w: %w", errNotInstalled, err)
	}
}

// ended notes and logs how an installation ended, each way once.
func (k *keeper) ended(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waits = err
	switch {
	case err == nil:
		k.log.Info("installed", "conf", k.confPath(), "plugin", k.test.Plugin, "directories by", k.Paths.Source)
	case k.said != err.Error():
		k.said = err.Error()
		k.log.Warn("not installed, and tried again", "error", err.Error())
	}
}

func (k *keeper) confPath() string { return filepath.Join(k.Paths.ConfDir, install.ConfName) }

// installed is a condition of readiness.
func (k *keeper) installed() error {
	k.mu.Lock()
	waits := k.waits
	k.mu.Unlock()
	if waits != nil {
		return waits
	}
	config, err := configOf(k.Installer)
	if err != nil {
		return err
	}
	if marker := filepath.Join(config.StateDir, network.UninstallingFile); exists(k.flags.at(marker)) {
		return fmt.Errorf("multiplexer is being uninstalled from this node (%s)", marker)
	}
	if !exists(k.flags.at(k.confPath())) {
		return fmt.Errorf("%s is not in its place: see the log for who took it", k.confPath())
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (k *keeper) write(e install.Event) {
	level := k.log.Info
	if e.Warning {
		level = k.log.Warn
	}
	level(e.Message, "reason", string(e.Reason), "file", e.File)
}
