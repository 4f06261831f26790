package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
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
			ctx, cancel := within(ctx, timeout)
			defer cancel()
			return f.once(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
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

// once installs and tells on out what happens.
func (f *installFlags) once(ctx context.Context, out, stderr io.Writer) error {
	n, err := f.installer(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	n.Tell = func(e install.Event) { tellEvent(out, e) }
	config, err := configOf(n)
	if err != nil {
		return err
	}
	t := selfTest{Socket: config.AgentSocket, Plugin: f.at(filepath.Join(n.Paths.BinDir, install.PluginName))}
	if err = n.Install(ctx, t.wait); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s is in place, and new pods come through multiplexer (directories by %s)\n", filepath.Join(n.Paths.ConfDir, install.ConfName), n.Paths.Source)
	return err
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
	if _, err = os.Stat(plugin); err != nil {
		return nil, fmt.Errorf("the plugin to install: %w; name it with --plugin", err)
	}
	options, err := f.readOptions()
	if err != nil {
		return nil, err
	}
	return &install.Installer{
		Root: f.root, Paths: paths, Plugin: plugin, Options: options, TakeOver: f.takeOver, Now: time.Now, Log: log, Unseen: f.unseen(),
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
		if !json.Valid(keys[key]) { // text
			var err error
			if keys[key], err = json.Marshal(value); err != nil {
				return nil, fmt.Errorf("--set %q: %w", pair, err)
			}
		}
	}
	return json.Marshal(keys)
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
