package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// uninstallFlags are the flags of `uninstall`.
type uninstallFlags struct {
	placeFlags
	force, restore bool
	timeout        time.Duration
	settle         time.Duration
	devices        homeFlags
}

func uninstallCommand() *cobra.Command {
	f := &uninstallFlags{}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take multiplexer off this node",
		Long: `Take multiplexer off this node. From now on pods that ask for networks wait; the
pods that have some are waited for: drain the node, or --force. Then the
configuration is removed, so that the cluster network is first again, VFs are
returned, and the plugin goes last. The agent of a DaemonSet does not install
again afterwards. Whatever ends it, run it again and it goes on.`,
		Example: `  kubectl drain NODE --ignore-daemonsets && multiplexerd uninstall
  multiplexerd uninstall --force --timeout 5m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := notNegative(f.timeout); err != nil {
				return err
			}
			return f.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *uninstallFlags) add(flags *pflag.FlagSet) {
	f.placeFlags.add(flags)
	flags.BoolVar(&f.force, "force", false, "take the networks away from pods that run, all but the cluster network")
	flags.BoolVar(&f.restore, "restore", false, "give other meta-plugins' configurations that install renamed their names back")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long pods are waited for; 0 for ever")
	flags.DurationVar(&f.settle, "settle", 5*time.Second, "how long the runtime gets to read its configurations anew before the plugin is removed")
	hide(flags, "settle")
	f.devices.add(flags)
}

func (f *uninstallFlags) run(ctx context.Context, out, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	paths, err := f.detect()
	if err != nil {
		return err
	}
	placed, err := f.placed(paths.ConfDir, log)
	if err != nil {
		return err
	}
	if paths.Runtime == "" {
		// A DaemonSet's pod does not see the runtime's configuration.
		paths.Runtime = f.runtime(placed.stateDir, log)
	}
	options, err := json.Marshal(map[string]string{"stateDir": placed.stateDir})
	if err != nil {
		return err
	}
	n := &install.Installer{
		Root: f.root, Paths: paths, Options: options, Now: time.Now, Log: log,
		Tell: func(e install.Event) { tellEvent(out, e) }, Unseen: f.unseen(),
	}
	if f.BinDir == "" {
		if n.Search, err = install.SearchDirs(f.root, f.Given); err != nil {
			return err
		}
	}
	nodes := attached{
		store:  &journal.Store{Dir: f.at(placed.stateDir), Now: time.Now},
		dir:    placed.stateDir,
		multus: multusPods{root: f.root, dir: placed.cniDir, heir: func() bool { return n.MultusIsNext(f.restore) }},
	}
	if f.force {
		told := map[string]bool{}
		nodes.multus.passed = func(id, why string) {
			if !told[id] {
				told[id] = true
				log.Warn("a container is not waited for", "container", id, "why", why)
			}
		}
	}
	removal := install.Removal{
		Pods: nodes.pods, Restore: f.restore, Force: byForce(), Settle: f.settle, Timeout: f.timeout, Assumed: placed.assumed,
		Waiting: func(pods []install.Pod) { tellWaiting(out, pods, f.force) },
		Home:    func(ctx context.Context) error { return f.devices.home(ctx, f.at(placed.stateDir), log) },
	}
	if f.force {
		d := detacher{store: nodes.store, multus: nodes.multus, conf: placed, paths: func() install.Paths { return n.Paths }}
		removal.Detach = d.detach
		if onNode(f.root) {
			removal.Release = d.call
		}
	}
	absent := n.Absent()
	if err = n.Uninstall(ctx, removal); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s. %s stays, so that the agent does not install again\n", f.outcome(n.Paths, placed.stateDir, absent), placed.stateDir)
	return err
}

// outcome says what an uninstall did.
func (f *uninstallFlags) outcome(paths install.Paths, stateDir string, absent bool) string {
	if absent {
		return fmt.Sprintf("nothing of multiplexer was found in %s, %s and %s; if it is elsewhere, uninstall again with --cni-conf-dir, --cni-bin-dir and --state-dir", paths.ConfDir, paths.BinDir, stateDir)
	}
	if plugin := filepath.Join(paths.BinDir, install.PluginName); exists(f.at(plugin)) {
		return "the configuration is off this node; " + plugin + " stays as long as pods need it"
	}
	return "multiplexer is off this node"
}

// runtime is the node's runtime as the agent knew it from the Node, "" if it
// never did.
func (f *uninstallFlags) runtime(stateDir string, log *slog.Logger) string {
	word, err := agentapi.LoadCopy(f.at(stateDir))
	if err != nil {
		log.Warn("the runtime is not known: the plugin stays as long as CRI-O could need it", "error", err.Error())
		return ""
	}
	if word == nil {
		return ""
	}
	return word.Runtime
}

// placed reads our conf on the node. One that cannot be read, or says nothing
// that counts, stops nobody from uninstalling. The plugin has its journals where
// the conf says: elsewhere no pod would be found to wait for.
func (f *uninstallFlags) placed(confDir string, log *slog.Logger) (placedConf, error) {
	p := placedConf{stateDir: f.stateDir, cniDir: network.MultusRecords}
	if f.stateDir != "" && !filepath.IsAbs(f.stateDir) {
		return p, fmt.Errorf("--state-dir %q: want an absolute path", f.stateDir)
	}
	found, err := install.FindPlaced(f.root, confDir)
	if err == nil && found != nil {
		var config *network.Config
		if config, err = network.ParseForDEL(found.Entry); err == nil {
			p.entry, p.cniDir = found.Entry, config.CNIDir
			p.stateDir = cmp.Or(p.stateDir, config.StateDir)
			if filepath.Clean(p.stateDir) != filepath.Clean(config.StateDir) {
				return p, fmt.Errorf("--state-dir is %s, and stateDir of %s is %s, where the plugin has its journals: %s", p.stateDir, found.Path, config.StateDir, byStateDir(config.StateDir))
			}
		}
	}
	if err != nil {
		log.Warn("our configuration on the node cannot be read: the defaults count", "error", err.Error())
	}
	p.assumed = p.stateDir == ""
	p.stateDir = cmp.Or(p.stateDir, network.DefaultStateDir)
	return p, nil
}

// placedConf is what the conf on the node says.
type placedConf struct {
	stateDir string
	assumed  bool   // neither the conf nor a flag says stateDir
	cniDir   string // of Multus's records
	entry    []byte // as the runtime hands it to the plugin; nil where there is no conf
}

// byForce is how the operator has networks taken away: in a pod, no command of
// his has the flag.
func byForce() string {
	if inPod() {
		return "--force (uninstall.force=true of the chart)"
	}
	return "--force"
}

// byStateDir is how the operator names the directory that counts: a pod sees
// only the one that the chart mounts.
func byStateDir(dir string) string {
	if inPod() {
		return "set cni.options.stateDir of the chart to " + dir + ", and uninstall again"
	}
	return "leave --state-dir out"
}

func tellWaiting(out io.Writer, pods []install.Pod, force bool) {
	who := install.Plural(len(pods), "pod has networks and is", "pods have networks and are")
	what := who + " waited for; drain the node, or use " + byForce()
	if force {
		what = install.Plural(len(pods), "pod has", "pods have") + " networks, which the plugin takes away"
	}
	_, _ = fmt.Fprintf(out, "%s:\n", what) // nobody reads it if this fails
	for _, p := range pods {
		_, _ = fmt.Fprintln(out, " ", lines(p.String()))
	}
}

// detacher takes networks away from pods that run. Only the plugin writes
// journals: it is told by a mark, and called, if it can be from here.
type detacher struct {
	store  *journal.Store
	multus multusPods
	conf   placedConf
	paths  func() install.Paths
}

func (d *detacher) detach(_ context.Context, pod install.Pod) error {
	contents, err := d.store.Read(pod.Container)
	if errors.Is(err, journal.ErrAbsent) {
		if multus.Listed(d.multus.path(), pod.Container) {
			return errors.New("it was attached by Multus: delete the pod")
		}
		return nil
	}
	if err != nil {
		return err
	}
	if contents.Damaged > 0 {
		return errors.New("its journal is damaged: delete the pod")
	}
	if saysNothing(contents) {
		return errors.New("its journal says nothing: delete the pod")
	}
	if defaultNetwork(contents) != "" {
		return errors.New("its only interface is of another network than the cluster's, by the default-network annotation: delete the pod")
	}
	if contents.Releasing == "" {
		err = d.store.MarkNetworks(pod.Container)
	}
	return err
}

// onNode reports whether this process sees the node as the runtime does. In a
// container, a plugin would not find what its ADD wrote, and call it released.
func onNode(root string) bool {
	if filepath.Clean(root) != "/" || inPod() {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	first, err := os.Readlink("/proc/1/ns/mnt")
	return err == nil && own == first
}

// call runs the installed plugin, to do at once what is marked. From a container,
// the runtime's next call of the plugin does it.
func (d *detacher) call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	stdin, err := d.stdin()
	if err != nil {
		return err
	}
	paths := d.paths()
	cmd := exec.CommandContext(ctx, filepath.Join(paths.BinDir, install.PluginName), "release")
	cmd.Env = []string{"CNI_PATH=" + paths.BinDir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = bytes.NewReader(stdin)
	// It is told to end, and not killed in the middle.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.Output()
	if err == nil {
		return nil
	}
	var said struct {
		Msg string `json:"msg"`
	}
	if json.Unmarshal(out, &said) == nil && said.Msg != "" {
		return errors.New(said.Msg)
	}
	return fmt.Errorf("run %s release: %w", cmd.Path, err)
}

// stdin is the plugin's configuration as a runtime hands it over.
func (d *detacher) stdin() ([]byte, error) {
	keys := map[string]any{"cniVersion": "1.0.0", "name": install.PluginName, "type": install.PluginName, "agentSocket": ""}
	if d.conf.entry != nil {
		var entry map[string]json.RawMessage // numbers as they were written
		if err := json.Unmarshal(d.conf.entry, &entry); err != nil {
			return nil, err
		}
		for key, value := range entry {
			keys[key] = value
		}
	}
	keys["stateDir"] = d.conf.stateDir
	return json.Marshal(keys)
}
