package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Pod is a container that the plugin attached: one that has a journal.
type Pod struct {
	Container string
	Name      string   // namespace/name, "" where nobody knows
	Networks  []string // those beside the cluster network
	Busy      bool     // a call works on it: what it will have is not known yet
}

// needs reports whether the pod can be deleted through multiplexer alone.
func (p Pod) needs() bool { return p.Busy || len(p.Networks) > 0 }

func (p Pod) String() string {
	name := p.Name
	if name == "" {
		name = "container " + p.Container
	}
	if len(p.Networks) > 0 {
		name += " (" + strings.Join(p.Networks, ", ") + ")"
	}
	return name
}

// Removal is how multiplexer leaves a node.
type Removal struct {
	// Pods lists the containers that have a journal, those included that a
	// call works on.
	Pods func(context.Context) ([]Pod, error)
	// Detach takes a living pod's networks away, all but the cluster network.
	// nil: pods are waited for.
	Detach func(context.Context, Pod) error
	// Release does at once what Detach only marked, if it can be done from here;
	// may be nil.
	Release func(context.Context) error
	// Timeout is how long pods are waited for, and before and after that whoever
	// is at work on the node; 0 = for ever. The runtime's time comes on top.
	Timeout time.Duration
	// Force is how the operator asks for Detach; "" = --force.
	Force string
	// Assumed: the state directory is the default since neither a conf nor the
	// operator says another.
	Assumed bool
	// Home returns what the agent holds, such as VFs that it made; may be nil.
	Home func(context.Context) error
	// Restore gives other meta-plugins' confs their names back, if their
	// executables are there.
	Restore bool
	// Waiting is told which pods are waited for, when they change; may be nil.
	Waiting func([]Pod)
	// Settle is how long the runtime gets to read its configurations anew
	// before the plugin goes; 0 = 5 s.
	Settle time.Duration
}

// Uninstall takes multiplexer off the node. While the marker stands, pods
// that ask for networks wait; the conf stays until no pod has any, since
// containerd detaches by the conf of the day. Then the conf goes, and the
// plugin last. What was done stays done: after a kill or an error, run it again.
func (n *Installer) Uninstall(ctx context.Context, r Removal) error {
	whole := ctx
	ctx, cancel := r.within(whole)
	defer cancel()
	if err := n.begin(ctx, r); err != nil {
		return err
	}
	if err := n.await(ctx, r); err != nil {
		return err
	}
	if err := n.locked(ctx, func() error { return n.takeConfOff(r) }); err != nil {
		return n.refused(err)
	}
	if r.Home != nil {
		if err := r.Home(ctx); err != nil {
			return n.confAlone(err)
		}
	}
	kept, err := n.settled(whole, r)
	if err != nil {
		return n.confAlone(err)
	}
	if kept != "" {
		n.tell(Event{PluginKept, true, n.pluginPath(), kept})
		return nil
	}
	ctx, done := r.within(whole)
	defer done()
	return n.locked(ctx, n.takePluginOff)
}

func (r Removal) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.Timeout > 0 {
		return context.WithTimeout(ctx, r.Timeout)
	}
	return context.WithCancel(ctx)
}

// confAlone is why the plugin is still there.
func (n *Installer) confAlone(cause error) error {
	return fmt.Errorf("the conf is removed, the plugin not yet: %w; %s", cause, n.again())
}

// refused says what a marker does that stands while somebody sees to what is in
// the way.
func (n *Installer) refused(cause error) error {
	if !errors.Is(cause, network.Invalid) {
		return cause
	}
	return fmt.Errorf("%w. Until that is done, pods that ask for networks wait, by %s; %s", cause, n.markerPath(), Again)
}

// settled returns when nobody comes through our conf any more, and says for
// whom the plugin has to stay, or "".
func (n *Installer) settled(ctx context.Context, r Removal) (kept string, err error) {
	if n.host().exists(n.pluginPath()) {
		if err = pause(ctx, r.settle()); err != nil {
			return "", err
		}
	}
	if n.Paths.Runtime == network.Containerd {
		return "", nil
	}
	// CRI-O detaches each pod by the conf that it was attached with. Some came
	// while the conf was on its way out.
	pods, err := r.Pods(ctx)
	if err != nil || len(pods) == 0 {
		return "", err
	}
	return fmt.Sprintf("%s the plugin to be deleted, the first is %s; restart them, then %s", Plural(len(pods), "pod that started through multiplexer still needs", "pods that started through multiplexer still need"), pods[0], n.again()), nil
}

// again says how to go on when the conf has gone, which named the state
// directory.
func (n *Installer) again() string {
	if dir := n.stateDir(); dir != network.DefaultStateDir || !n.host().exists(n.recordPath()) {
		return "uninstall again with --state-dir " + dir
	}
	return "uninstall again"
}

// located refuses a state directory other than that of our conf, which somebody
// may have renamed, and one that is only assumed, and in which nothing
// says that it was ours: a conf that has gone may have named another one, with
// the journals of pods that still need the plugin.
func (n *Installer) located(r Removal) error {
	if !n.host().exists(n.pluginPath()) {
		return nil
	}
	for _, s := range n.standing() {
		if !n.sameDir(s.config.StateDir, n.stateDir()) {
			return network.Invalid.Errorf("%s was made by multiplexer, and stateDir in it is %s, where the plugin has its journals: uninstall with --state-dir %s (cni.options.stateDir of the chart), or remove that file if it is older than the conf that was there last", s.path, s.config.StateDir, s.config.StateDir)
		}
	}
	if !r.Assumed {
		return nil
	}
	known, err := n.installed()
	if err != nil || known != nil {
		return err
	}
	return network.Invalid.Errorf("%s is there, but no conf of multiplexer that can be read in %s, and no record of an installation in %s, so stateDir is not known, nor which pods need the plugin: name stateDir of the conf that was there with --state-dir (the default is %s)", n.pluginPath(), n.Paths.ConfDir, n.stateDir(), network.DefaultStateDir)
}

func (r Removal) force() string { return or(r.Force, "--force") }

func (r Removal) settle() time.Duration {
	if r.Settle > 0 {
		return r.Settle
	}
	return 5 * time.Second
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// begin sets the marker. From here on the paths are those of the installation.
func (n *Installer) begin(ctx context.Context, r Removal) error {
	if _, _, err := n.settings().parse(); err != nil {
		return err
	}
	if err := n.located(r); err != nil {
		return err
	}
	if err := n.makeState(); err != nil {
		return err
	}
	return n.locked(ctx, func() error {
		known, err := n.installed()
		if err != nil {
			return err
		}
		recorded := known != nil
		if !recorded {
			known = &record{}
		} else {
			if !known.NoConf && known.ConfDir != n.Paths.ConfDir && n.hidden(known.ConfDir) {
				return network.Invalid.Errorf("%s: confDir, into which the conf was put, is %s, which cannot be seen from here, and while the conf is there the plugin must not go: set --cni-conf-dir (cni.confDir of the chart) to it", n.recordPath(), known.ConfDir)
			}
			n.Paths.ConfDir, n.Paths.BinDir = known.ConfDir, known.BinDir
			if known.Runtime != "" {
				n.Paths.Runtime = known.Runtime
			}
		}
		n.tellAside(r, known.Aside)
		m, err := n.uninstalling()
		if err != nil || m != nil {
			return err
		}
		conf, err := n.conf()
		if err != nil {
			return err
		}
		nothing := !recorded && conf == nil && !n.host().exists(n.pluginPath())
		return n.host().writeJSON(n.markerPath(), Uninstall{Installation: known.Installation, Nothing: nothing, Since: n.Now().UTC()})
	})
}

// await waits until no pod has networks beside the cluster network.
func (n *Installer) await(ctx context.Context, r Removal) error {
	told := ""
	var failed error // of the last try that was not cut short
	for {
		pods, err := r.Pods(ctx)
		if err != nil {
			return fmt.Errorf("find the pods that have networks: %w", err)
		}
		left := slices.DeleteFunc(pods, func(p Pod) bool { return !p.needs() })
		if len(left) == 0 {
			return nil
		}
		if now := names(left); now != told && r.Waiting != nil {
			told = now
			r.Waiting(left)
		}
		if r.Detach != nil {
			if now := r.detach(ctx, left); ctx.Err() == nil || failed == nil {
				failed = now
			}
		}
		if err = pause(ctx, min(n.poll(), time.Second)); err != nil {
			how := "drain the node"
			if r.Detach == nil {
				how += ", or use " + r.force()
			}
			return network.Again.Errorf("%w", errors.Join(fmt.Errorf("%s networks: %s; %s; new pods that ask for networks wait until then", Plural(len(left), "pod still has", "pods still have"), names(left), how), failed))
		}
	}
}

func (r Removal) detach(ctx context.Context, pods []Pod) error {
	var failed []error
	for _, p := range pods {
		if p.Busy {
			continue
		}
		if err := r.Detach(ctx, p); err != nil {
			failed = append(failed, fmt.Errorf("detach %s: %w", p, err))
		}
	}
	if r.Release != nil {
		failed = append(failed, r.Release(ctx)) // of all pods: what one lacks, others may too
	}
	return errors.Join(failed...)
}

func names(pods []Pod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.String())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// takeConfOff gives the cluster network first place again.
func (n *Installer) takeConfOff(r Removal) error {
	m, err := n.uninstalling()
	if err != nil {
		return err
	}
	if m == nil {
		return network.Again.Errorf("somebody installed multiplexer again meanwhile (%s is gone): the conf stays", n.markerPath())
	}
	if s := n.standingAt(n.confPath()); s != nil && !n.sameDir(s.config.StateDir, n.stateDir()) {
		return network.Again.Errorf("somebody installed multiplexer with stateDir %s meanwhile, and pods were waited for in %s alone: %s stays; uninstall again", s.config.StateDir, n.stateDir(), s.path)
	}
	var known record
	recorded, err := n.host().readJSON(n.recordPath(), &known)
	if err != nil {
		return err
	}
	if r.Restore {
		if err = n.restore(known.Aside); err != nil {
			return err
		}
	}
	conf, err := n.conf()
	if err != nil {
		return err
	}
	if conf != nil {
		next, nextErr := n.next(r)
		if nextErr != nil {
			return nextErr
		}
		if err = n.host().remove(n.confPath()); err != nil {
			return err
		}
		n.tell(Event{Removed, next.warn, n.confPath(), next.text})
	}
	if recorded && !known.NoConf {
		known.NoConf = true // whoever installs next may choose another confDir
		if err = n.host().writeJSON(n.recordPath(), known); err != nil {
			return err
		}
	}
	return n.drop(n.copies())
}

// Absent reports whether nothing of multiplexer is on the node, as far as the
// paths lead.
func (n *Installer) Absent() bool {
	h := n.host()
	state, err := os.ReadDir(h.at(n.stateDir()))
	return len(state) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist)) && !h.exists(n.confPath()) && !h.exists(n.pluginPath()) && len(n.standing()) == 0
}

// tellAside names the confs that stay aside. Who would rather have them back can
// say so while pods are waited for; afterwards nobody knows of them.
func (n *Installer) tellAside(r Removal, aside []move) {
	for _, m := range aside {
		if !r.Restore && n.host().exists(m.To) {
			n.tell(Event{MovedAside, true, m.To, fmt.Sprintf("it stays so, and is forgotten with the plugin: to have it back, uninstall with --restore, or mv %s %s", m.To, m.From)})
		}
	}
}

// sayAside says that nothing is restored. The record of what was moved aside
// goes with the plugin.
func (n *Installer) sayAside() {
	entries, err := n.host().folder().ReadDir(n.Paths.ConfDir)
	for _, e := range entries {
		if err == nil && strings.Contains(e.Name(), asideSuffix) {
			n.Log.Warn("it is not restored, since no record says that install moved it aside; if it is to have its name back, rename it by hand", "file", filepath.Join(n.Paths.ConfDir, e.Name()))
		}
	}
	n.Log.Info("nothing is restored: no conf is recorded that install moved aside", "record", n.recordPath())
}

// restore gives confs that were moved aside their names back, while ours is
// still in place. Of several with one name the last counts, and no file that
// its owner wrote since is touched.
func (n *Installer) restore(aside []move) error {
	h := n.host()
	if len(aside) == 0 {
		n.sayAside()
	}
	for _, m := range slices.Backward(aside) {
		if !h.exists(m.To) || h.exists(m.From) {
			continue
		}
		list, err := h.folder().List(m.To, network.AlwaysMore)
		if err != nil {
			return err
		}
		if lacks := n.lacks(list); lacks != "" {
			return network.Invalid.Errorf("restore %s: %s, and no pod could start: install it, or leave --restore out", m.From, lacks)
		}
		if err = h.move(m.To, m.From); err != nil {
			return err
		}
	}
	return nil
}

// takePluginOff is the last step. The marker stays: this installation's
// agent, should it start again, must not undo all this.
func (n *Installer) takePluginOff() error {
	h := n.host()
	if m, err := n.uninstalling(); err != nil || m == nil {
		return errors.Join(err, network.Again.Errorf("somebody installed multiplexer again meanwhile (%s is gone): the plugin stays", n.markerPath()))
	}
	if placed, err := FindPlaced(n.Root, n.Paths.ConfDir); err != nil || placed != nil {
		if placed != nil {
			err = network.Invalid.Errorf("%s calls multiplexer too, and without the plugin no pod could start, so the plugin stays: take multiplexer out of that file, or remove it, then %s", placed.Path, n.again())
		}
		return err
	}
	for _, path := range []string{n.pluginPath(), temporary(n.pluginPath()), temporary(n.confPath())} {
		if !h.exists(path) {
			continue
		}
		if err := h.remove(path); err != nil {
			return err
		}
		if path == n.pluginPath() {
			n.tell(Event{Removed, false, path, "the plugin is removed"})
		}
	}
	return h.remove(n.recordPath())
}
