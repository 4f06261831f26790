package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Installer puts multiplexer onto a node and keeps it there. One goroutine
// uses it; several processes may, since they take the node's lock in turn.
type Installer struct {
	Root    string          // where this process sees the node's directories; "/" on the node
	Paths   Paths           // by Detect
	Plugin  string          // the executable to install, as this process sees it
	Options json.RawMessage // the operator's keys of the plugin's configuration

	// Search are the directories in which the runtime searches plugins, by
	// SearchDirs; nil where nothing but Paths.BinDir is known.
	Search []string
	// Unseen says of a path of the node whether it cannot be seen from here, as
	// in a container; nil where all can be.
	Unseen func(path string) bool

	// Try runs an executable that is to be the plugin, as this process sees it,
	// before it takes its place; nil where that is not to be tried.
	Try func(ctx context.Context, path string) error
	// Recorded returns a container that may live and needs the records of Multus
	// in a cniDir, "" where none does; nil where nobody looks.
	Recorded func(cniDir string) (container string, err error)

	// Installation is whose this is: the DaemonSet's UID. One that was
	// uninstalled does not come back when its pod starts again. By hand it is
	// "", which always installs.
	Installation string
	// Created is when the agent's pod was: its DaemonSet is no newer. Zero where
	// there is none.
	Created time.Time
	// TakeOver renames other meta-plugins' confs that sort before ours.
	TakeOver bool

	Poll time.Duration // how often the node is looked at without a change; 0 = 10 s
	Now  func() time.Time
	Tell func(Event) // must not block
	Log  *slog.Logger

	last    []byte  // the conf as we wrote it
	confs   limiter // how often it was taken back
	plugins limiter
	plugin  seen
	had     bool // the plugin was in its place once
	said    map[string]string
	doubt   string // why the cluster network could not be read last time
	soon    bool   // look again in a moment
	warned  bool   // of what keeps multiplexer from serving all pods
}

func (n *Installer) host() host { return host{root: n.Root, log: n.Log} }

func (n *Installer) confPath() string { return filepath.Join(n.Paths.ConfDir, ConfName) }

func (n *Installer) settings() Settings {
	return Settings{ConfDir: n.Paths.ConfDir, Runtime: n.Paths.Runtime, Options: n.Options}
}

// stateDir is the plugin's. Options that do not parse are refused before it
// is asked for.
func (n *Installer) stateDir() string {
	config, _, err := n.settings().parse()
	if err != nil {
		return network.DefaultStateDir
	}
	return config.StateDir
}

func (n *Installer) poll() time.Duration {
	if n.Poll > 0 {
		return n.Poll
	}
	return 10 * time.Second
}

// pause is how long to wait for a change.
func (n *Installer) pause() time.Duration {
	if n.soon {
		return min(n.poll(), 200*time.Millisecond)
	}
	return n.poll()
}

// Install puts multiplexer onto the node: directories, plugin, then what
// `ready` waits for (the agent serves and has tested itself), then the conf,
// as soon as there is a cluster network. It returns when the conf is in place.
func (n *Installer) Install(ctx context.Context, ready func(context.Context) error) error {
	_, warnings, err := n.settings().parse()
	if err != nil {
		return err
	}
	if !n.warned {
		n.warned = true
		for _, w := range slices.Concat(n.Paths.Warnings, warnings) {
			n.Log.Warn(w)
		}
	}
	if err = n.prepare(ctx); err != nil {
		return err
	}
	if err = ready(ctx); err != nil {
		return fmt.Errorf("the conf is not put in place: %w", err)
	}
	w := newWatcher()
	defer w.close()
	for {
		w.add(n.watched()...)
		placed, serr := n.step(ctx)
		if serr != nil || placed {
			return serr
		}
		if !w.wait(ctx, n.pause()) {
			return n.waitedFor(ctx.Err())
		}
	}
}

// waitedFor says what an installation that ends without a conf waited for.
func (n *Installer) waitedFor(cause error) error {
	if m, err := n.uninstalling(); err == nil && m != nil {
		return fmt.Errorf("multiplexer is being uninstalled from this node since (%s), and the conf is not put in place: let that end, then install again: %w", n.markerPath(), cause)
	}
	// What was told last may be long ago.
	if _, err := n.wanted(); err != nil {
		cause = fmt.Errorf("%w; install or start the cluster's own network, or correct clusterNetwork of the options, then install again (%w)", err, cause)
	}
	return fmt.Errorf("wait for the cluster network in %s: %w", n.Paths.ConfDir, cause)
}

// prepare makes the directories and puts the plugin in place.
func (n *Installer) prepare(ctx context.Context) error {
	h := n.host()
	// Nothing is written before it is known to be right: a record in another
	// stateDir would lead an uninstall there.
	if err := n.checkState(); err != nil {
		return err
	}
	if err := n.makeState(); err != nil {
		return err
	}
	return n.locked(ctx, func() error {
		m, err := n.uninstalling()
		if err != nil {
			return err
		}
		if m != nil && n.meant(m) {
			if m.Installation == "" {
				m.Installation = n.Installation // later pods of the DaemonSet are meant too
				if err = h.writeJSON(n.markerPath(), m); err != nil {
					return err
				}
			}
			return n.refuse()
		}
		if err = n.sameConfDir(); err != nil {
			return err
		}
		for _, dir := range []string{n.Paths.BinDir, n.Paths.ConfDir} {
			if err = h.makeDir(dir, 0o755); err != nil {
				return err
			}
		}
		if err = n.recordNow(); err != nil {
			return err
		}
		if err = n.checkPlugin(ctx); err != nil {
			return err
		}
		if m != nil {
			err = h.remove(n.markerPath())
		}
		// A file half written, of a process that was killed.
		if temp := temporary(n.confPath()); h.exists(temp) {
			err = errors.Join(err, h.remove(temp))
		}
		return err
	})
}

// meant reports whether an uninstall was of this installation. On a node that
// came while multiplexer was taken off all nodes, nothing was installed, and
// the marker names nobody: it means who was there before it.
func (n *Installer) meant(m *Uninstall) bool {
	if n.Installation == "" {
		return false
	}
	if m.Installation == "" {
		return m.Nothing && !n.Created.IsZero() && n.Created.Before(m.Since)
	}
	return m.Installation == n.Installation
}

// makeState makes the state directory, root's alone. Where that is refused,
// doctor and the log say so, and pods get their networks all the same.
func (n *Installer) makeState() error {
	dir := n.stateDir()
	if err := n.host().makeDir(dir, 0o700); err != nil {
		return err
	}
	if err := n.host().private(dir); err != nil {
		n.say(Event{Failed, true, dir, err.Error()})
	}
	return nil
}

// refuse says why this installation does not come back, and how it would.
func (n *Installer) refuse() error {
	how := Again
	if n.host().exists(n.confPath()) {
		how = "that has not ended, and pods that ask for networks wait: run multiplexerd uninstall again to end it; " + Again
	}
	err := fmt.Errorf("%w (%s): %s", ErrUninstalled, n.markerPath(), how)
	n.say(Event{Uninstalling, true, n.markerPath(), err.Error()})
	return err
}

// checkPlugin puts the plugin in its place unless it is there. Once it was,
// whoever removed it is named.
func (n *Installer) checkPlugin(ctx context.Context) error {
	if n.Plugin == "" {
		return nil
	}
	h, path := n.host(), n.pluginPath()
	if n.plugin.unchanged(h.name(path)) {
		return nil
	}
	now := n.plugin
	n.plugin = seen{} // until it is known to be ours, it is read each time
	state, err := h.comparePlugin(n.Plugin, path)
	if err != nil {
		return err
	}
	if state == pluginSame {
		n.had, n.plugin = true, now
		n.hush(GivenUp, path)
		return nil
	}
	taken := n.had
	if taken && !n.plugins.allow(n.Now()) {
		n.say(Event{GivenUp, true, path, fmt.Sprintf("the plugin is %s, and was put back %d times within %s: find who else installs %s, and stop one of them", state, retakes, retakeSpell, path)})
		return nil
	}
	if err = n.placePlugin(ctx); err != nil {
		if taken {
			n.plugins.forget()
		}
		return err
	}
	if n.had = true; taken {
		n.tell(Event{PluginTaken, true, path, fmt.Sprintf("the plugin was %s: it is put back; nothing but this installation should write %s", state, path)})
	}
	n.tell(Event{PluginInstalled, false, path, "the plugin is in place"})
	return nil
}

// locked runs an action under the node's lock.
func (n *Installer) locked(ctx context.Context, action func() error) error {
	lock, err := lockfile.Open(ctx, n.host().at(filepath.Join(n.stateDir(), "install.lock")))
	if err != nil {
		return network.IO.Errorf("install: %w", err)
	}
	defer lock.Close()
	return action()
}

// watched are the directories whose changes matter, as this process sees them.
func (n *Installer) watched() []string {
	h := n.host()
	dirs := []string{h.at(n.Paths.ConfDir), h.at(n.Paths.BinDir), h.at(n.stateDir())}
	config, _, err := n.settings().parse()
	if err == nil && filepath.IsAbs(config.ClusterNetwork) {
		dir := h.at(config.ClusterNetwork)
		if info, serr := os.Stat(dir); serr != nil || !info.IsDir() {
			dir = filepath.Dir(dir)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// conf returns our conf as it is on the node, nil where it is not.
func (n *Installer) conf() ([]byte, error) {
	raw, err := n.host().read(n.confPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, network.Invalid) { // somebody put something else there
		return []byte{}, nil
	}
	return raw, err
}

func (n *Installer) placeConf(conf []byte) error {
	if err := n.recordConf(); err != nil {
		return err
	}
	if err := n.host().replace(n.confPath(), bytes.NewReader(conf), 0o600); err != nil {
		return err
	}
	n.last = conf
	return nil
}
