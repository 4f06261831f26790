package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/doctor"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// nodeFlags say where the runtime of a node looks, and where the node is.
type nodeFlags struct {
	install.Given
	root string
}

func (f *nodeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.ConfDir, "cni-conf-dir", "", "directory of the runtime's network configurations; without it, what the runtime's own configuration says")
	flags.StringVar(&f.BinDir, "cni-bin-dir", "", "directory of the runtime's plugins; without it, what the runtime's own configuration says")
	flags.StringVar(&f.Runtime, "runtime", "", "containerd or cri-o; without it, the one that is there")
	flags.StringVar(&f.root, "host-root", "/", "where the node's directories are mounted, for a container; the other paths are the node's own")
}

// detect finds the runtime's directories.
func (f *nodeFlags) detect() (install.Paths, error) {
	if !filepath.IsAbs(f.root) {
		return install.Paths{}, fmt.Errorf("--host-root %q: want an absolute path", f.root)
	}
	if info, err := os.Stat(f.root); err != nil || !info.IsDir() {
		return install.Paths{}, fmt.Errorf("--host-root %q: no such directory", f.root)
	}
	return install.Detect(f.root, f.Given)
}

// at is where this process sees a file of the node.
func (f *nodeFlags) at(path string) string { return podns.Below(f.root, path) }

// installFlags say what is installed.
type installFlags struct {
	nodeFlags
	plugin, options string
	set             []string
	takeOver        bool
}

func (f *installFlags) add(flags *pflag.FlagSet) {
	f.nodeFlags.add(flags)
	flags.StringVar(&f.plugin, "plugin", "", "the plugin's executable to install; without it, multiplexer beside multiplexerd")
	flags.StringVar(&f.options, "options", "", "file with keys of the plugin's configuration, a JSON object; multiplexerd migrate makes one of Multus's")
	flags.StringArrayVar(&f.set, "set", nil, "KEY=VALUE of the plugin's configuration, over those of --options; VALUE is JSON, or text")
	flags.BoolVar(&f.takeOver, "take-over", false, "rename other meta-plugins' configurations that sort before ours")
}

func installCommand() *cobra.Command {
	f := &installFlags{}
	timeout := 2 * time.Minute
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put multiplexer onto this node: plugin, then configuration",
		Long: `Put multiplexer onto this node: the plugin into the runtime's directory, and, when
it runs and the agent answers, its configuration before the cluster network's.
Done anew it corrects both. The agent of a DaemonSet does the same by itself
(multiplexerd run --install).`,
		Example: `  multiplexerd install
  multiplexerd install --set agentSocket= --set 'clusterCIDRs=["10.244.0.0/16","10.96.0.0/12"]'
  multiplexerd migrate /etc/cni/net.d/00-multus.conf >options.json && multiplexerd install --options options.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := notNegative(timeout); err != nil {
				return err
			}
			ctx, cancel := within(ctx, timeout)
			defer cancel()
			return f.once(ctx, timeout, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long the agent and a cluster network are waited for; 0 for ever")
	return cmd
}

// within bounds what a command waits for; 0 is for ever.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout > 0 {
		return context.WithTimeout(ctx, timeout)
	}
	return context.WithCancel(ctx)
}

func notNegative(timeout time.Duration) error {
	if timeout < 0 {
		return fmt.Errorf("--timeout %s: want a time, or 0 for ever", timeout)
	}
	return nil
}

// once installs and tells on out what happens. Somebody waits for it to end, and
// can correct what an agent has to go on with.
func (f *installFlags) once(ctx context.Context, timeout time.Duration, out, stderr io.Writer) error {
	n, err := f.installer(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	n.Tell = func(e install.Event) { tellEvent(out, e) }
	config, err := configOf(n)
	if err != nil {
		return err
	}
	if err = onlyKnownKeys(n.Options); err != nil {
		return err
	}
	if err = n.SameBinDir(); err != nil {
		return err
	}
	t := selfTest{Socket: config.AgentSocket, Plugin: f.at(filepath.Join(n.Paths.BinDir, install.PluginName)), Failed: tellWaits(out, timeout)}
	if err = n.Install(ctx, t.wait); err != nil {
		return err
	}
	conf := filepath.Join(n.Paths.ConfDir, install.ConfName)
	if node := n.Inspect(); !node.First && len(node.Confs) > 0 {
		return fmt.Errorf("%s is in place, but %s comes first, so new pods do not come through multiplexer: do as ConfShadowed says, then install again", conf, filepath.Join(n.Paths.ConfDir, node.Confs[0].Name))
	}
	_, err = fmt.Fprintf(out, "%s is in place, and new pods come through multiplexer (%s)\n", conf, f.foundBy(n.Paths))
	return err
}

// tellWaits tells what an installation waits for, each reason once.
func tellWaits(out io.Writer, timeout time.Duration) func(error) {
	said, long := map[string]bool{}, ""
	if timeout > 0 {
		long = " up to " + timeout.String()
	}
	return func(err error) {
		if !said[err.Error()] {
			said[err.Error()] = true
			_, _ = fmt.Fprintln(out, lines(fmt.Sprintf("it waits%s before it puts the conf in place: %s", long, err))) // nobody reads it if this fails
		}
	}
}

// foundBy says where the directories are known from.
func (f *nodeFlags) foundBy(p install.Paths) string {
	switch {
	case (f.ConfDir == "") == (f.BinDir == ""):
		return "directories by " + p.Source
	case f.ConfDir != "":
		return "configurations by --cni-conf-dir, plugins by " + p.Source
	}
	return "configurations by " + p.Source + ", plugins by --cni-bin-dir"
}

// onlyKnownKeys refuses keys that nobody reads. The conf would be made anew
// without what was meant.
func onlyKnownKeys(options json.RawMessage) error {
	var refused []error
	unknown := network.UnknownKeys(options)
	for _, key := range slices.Sorted(maps.Keys(unknown)) {
		how := "see docs/configuration.md"
		field, inner, _ := strings.Cut(key, ".")
		if near := resource.Nearest(key, unknown[key]); near != "" {
			how = fmt.Sprintf("did you mean %q?", near)
		} else if slices.Contains(unknown[key], field) {
			how = fmt.Sprintf(`write --set '%s={"%s": ...}'`, field, inner)
		}
		refused = append(refused, fmt.Errorf("--set, --options: %q is no key of the plugin's configuration: %s", key, how))
	}
	return errors.Join(refused...)
}

// installer is what the flags describe.
func (f *installFlags) installer(log *slog.Logger) (*install.Installer, error) {
	paths, err := f.detect()
	if err != nil {
		return nil, err
	}
	plugin := f.plugin
	if plugin == "" {
		self, selfErr := os.Executable()
		if selfErr != nil {
			return nil, fmt.Errorf("find multiplexerd's own executable: %w; name the plugin's with --plugin", selfErr)
		}
		plugin = filepath.Join(filepath.Dir(self), install.PluginName)
	}
	info, err := os.Stat(plugin)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", plugin)
	}
	if err != nil {
		return nil, fmt.Errorf("the plugin to install: %w; name it with --plugin", err)
	}
	options, err := f.readOptions()
	if err != nil {
		return nil, err
	}
	return &install.Installer{
		Root: f.root, Paths: paths, Plugin: plugin, Options: options, TakeOver: f.takeOver, Now: time.Now, Log: log, Unseen: f.unseen(),
		Try: func(ctx context.Context, path string) error {
			terr := runsVersion(ctx, path)
			if terr == nil {
				_, terr = doctor.PluginVersion(ctx, path) // any CNI plugin has answered so far
			}
			if terr != nil {
				return fmt.Errorf("--plugin %s: %w", plugin, terr)
			}
			return nil
		},
		Recorded: func(cniDir string) (string, error) { return multusPods{root: f.root, dir: cniDir}.first() },
	}, nil
}

// readOptions are the keys of --options and --set as one JSON object.
func (f *installFlags) readOptions() (json.RawMessage, error) {
	keys := map[string]json.RawMessage{}
	if f.options != "" {
		raw, err := os.ReadFile(f.options)
		if err != nil {
			return nil, fmt.Errorf("--options: %w", err)
		}
		if err = json.Unmarshal(raw, &keys); err != nil {
			return nil, fmt.Errorf("--options %s: want a JSON object of the plugin's configuration keys: %w", f.options, err)
		}
	}
	if keys == nil { // null
		keys = map[string]json.RawMessage{}
	}
	for _, pair := range f.set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--set %q: want KEY=VALUE", pair)
		}
		keys[key] = json.RawMessage(value)
		if !json.Valid(keys[key]) {
			var err error
			if keys[key], err = text(key, value); err != nil {
				return nil, fmt.Errorf("--set %q: %w", pair, err)
			}
		}
	}
	return json.Marshal(keys)
}

// text is a value that is no JSON. What begins as an object, a list or a string
// of JSON was meant to be one, and a list has to be.
func text(key, value string) (json.RawMessage, error) {
	if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") || strings.HasPrefix(value, `"`) {
		var whole json.RawMessage
		return nil, fmt.Errorf("not valid JSON: %w", json.Unmarshal([]byte(value), &whole))
	}
	raw, err := json.Marshal(value)
	if err != nil || fits(key, raw) {
		return raw, err
	}
	list, err := json.Marshal(strings.Split(value, ","))
	if err == nil && fits(key, list) {
		err = fmt.Errorf("want a list: --set '%s=%s'", key, list)
	}
	return raw, err
}

// fits reports whether a key may have a value.
func fits(key string, value json.RawMessage) bool {
	options, err := json.Marshal(map[string]json.RawMessage{key: value})
	if err == nil {
		_, err = install.Settings{Options: options}.Config()
	}
	return err == nil
}

// configOf is the plugin's configuration as far as the options decide it.
func configOf(n *install.Installer) (*network.Config, error) {
	config, err := install.Settings{ConfDir: n.Paths.ConfDir, Runtime: n.Paths.Runtime, Options: n.Options}.Config()
	if err != nil {
		return nil, errors.Join(err, errors.New("correct --options or --set"))
	}
	return config, nil
}

func tellEvent(out io.Writer, e install.Event) {
	// Nobody reads it if this fails, and the work goes on.
	_, _ = fmt.Fprintln(out, lines(fmt.Sprintf("%s %s: %s", e.Reason, e.File, e.Message)))
}
