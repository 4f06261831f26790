package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// runFlags are the flags of `run` that are not the agent's own options.
type runFlags struct {
	agent.Options
	node, kubeconfig  string
	namespaces        bool
	devices           kubelet.Resources
	plugin            deviceFlags
	keeper            keeperFlags
	ranges            []string
	logLevel, logForm string
}

func runCommand() *cobra.Command {
	f := &runFlags{}
	f.BootIDPath, f.Version, f.Now = "/proc/sys/kernel/random/boot_id", version, time.Now
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node's agent",
		Long: `Run the node's agent: it tells the plugin which networks a pod may use and which
devices kubelet gave it, shows on the pods what the plugin did, and names what
seems to be left over. It changes no network namespace.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return f.run(ctx, cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.node, "node-name", os.Getenv("NODE_NAME"), "name of this node in the cluster (or $NODE_NAME)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file; without one the pod's service account is used")
	flags.StringVar(&f.Socket, "socket", "/run/multiplexer/agent.sock", "agentSocket of multiplexer's configuration")
	flags.StringVar(&f.StateDir, "state-dir", network.DefaultStateDir, "stateDir of multiplexer's configuration")
	flags.StringVar(&f.NetnsDir, "netns-dir", "/run/netns", "where the namespaces of the pods can be seen")
	flags.StringVar(&f.devices.Socket, "pod-resources-socket", "/var/lib/kubelet/pod-resources/kubelet.sock", "kubelet's pod-resources socket")
	flags.StringVar(&f.devices.Checkpoint, "device-checkpoint", "", "kubelet's private checkpoint file, read when the socket fails; none unless given")
	f.plugin.add(flags)
	f.keeper.add(flags)
	flags.StringVar(&f.Publish, "publish", agent.PublishMulti, "network-status of which pods: multi (more than one network), all, off")
	flags.StringVar(&f.Events, "events", agent.EventsFailures, "events on pods: failures, all, none")
	flags.BoolVar(&f.namespaces, "namespace-defaults", true, "watch namespaces for networks of their own")
	flags.StringSliceVar(&f.ranges, "cluster-cidrs", nil, "more ranges of the cluster's pods and Services, such as 10.244.0.0/16")
	flags.StringVar(&f.MetricsAddress, "metrics-address", "127.0.0.1:9745", "address of /healthz, /readyz and /metrics; \"\" for none")
	flags.DurationVar(&f.Sweep, "sweep", 30*time.Second, "time between two looks at the journals")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logForm, "log-format", "text", "text or json")
	return cmd
}

// untilSignal returns a context that ends when the process is told to end.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}

// run checks the flags and runs the agent until ctx ends.
func (f *runFlags) run(ctx context.Context, stderr io.Writer) error {
	var err error
	if f.Log, err = f.logger(stderr); err != nil {
		return err
	}
	klog.SetSlogLogger(f.Log.With("from", "client-go"))
	if err = f.check(); err != nil {
		return err
	}
	for _, flag := range f.keeper.idle() {
		f.Log.Warn(flag + " has no effect without --install: the plugin's configuration is as it is on the node")
	}
	if err = install.Private(f.StateDir); err != nil {
		f.Log.Warn("the state directory is not root's alone", "error", err.Error())
	}
	config, err := f.clusterConfig()
	if err != nil {
		return err
	}
	f.devices.Log = f.Log
	a, err := agent.New(f.Options, k8sclient.Options{Config: config, Node: f.node, Namespaces: f.namespaces, Log: f.Log}, &f.devices)
	if err != nil {
		return err
	}
	if err = a.ShowVFs(inventory(f.plugin.sys, f.StateDir)); err != nil {
		return err
	}
	releaseDevices, err := f.runDevices(a)
	if err != nil {
		return err
	}
	defer releaseDevices()
	if err = f.keeper.run(a, f); err != nil {
		return err
	}
	if _, err = os.Stat(f.NetnsDir); err != nil {
		f.Log.Warn("nothing can be told to be left over without the pods' namespaces: mount them, or correct --netns-dir", "error", err.Error())
	}
	f.Log.Info("running", "version", f.Version, "node", f.node, "socket", f.Socket)
	return a.Run(ctx)
}

func (f *runFlags) check() error {
	if f.node == "" {
		return errors.New("--node-name is missing: name this node as the cluster does, or set NODE_NAME (spec.nodeName by the downward API)")
	}
	if err := network.ValidateObjectName("--node-name", f.node); err != nil {
		return err
	}
	for flag, path := range map[string]string{
		"--socket": f.Socket, "--state-dir": f.StateDir, "--netns-dir": f.NetnsDir, "--pod-resources-socket": f.devices.Socket,
	} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s %q: want an absolute path", flag, path)
		}
	}
	if err := f.plugin.check(); err != nil {
		return err
	}
	if err := oneOf("--publish", f.Publish, agent.PublishMulti, agent.PublishAll, agent.PublishOff); err != nil {
		return err
	}
	if err := oneOf("--events", f.Events, agent.EventsFailures, agent.EventsAll, agent.EventsNone); err != nil {
		return err
	}
	if f.Sweep < time.Second {
		return fmt.Errorf("--sweep %s: want at least 1s", f.Sweep)
	}
	for _, s := range f.ranges {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Bits() < 2 || p.Addr().Is4In6() {
			return fmt.Errorf("--cluster-cidrs %q: want a range of the cluster's pods or Services, such as 10.244.0.0/16", s)
		}
		f.Ranges = append(f.Ranges, p.Masked())
	}
	return nil
}

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s %q: want one of %s", flag, value, strings.Join(allowed, ", "))
}

func (f *runFlags) clusterConfig() (*rest.Config, error) {
	if f.kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("%w; outside of a pod, name a kubeconfig file with --kubeconfig", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", f.kubeconfig, err)
	}
	return config, nil
}

func (f *runFlags) logger(stderr io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logForm {
	case "text":
		return slog.New(slog.NewTextHandler(stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", f.logForm)
}
