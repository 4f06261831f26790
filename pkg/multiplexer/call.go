package multiplexer

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// call is one CNI call and what serves it.
type call struct {
	plugin  *Plugin
	args    *skel.CmdArgs
	config  *network.Config
	cniArgs [][2]string
	boot    string
	log     *slog.Logger
	logFile *os.File
	runner  *delegate.Runner
	store   *journal.Store
	planner *plan.Planner
	agent   *fromAgent // nil without an agent
}

// strictness is what a verb makes of a configuration that has a mistake.
type strictness bool

const (
	strict    strictness = true  // it is refused
	forgiving strictness = false // what detaching needs is taken from it
)

// start reads the configuration and the arguments; it has no effects but an
// open log file.
func (p *Plugin) start(args *skel.CmdArgs, how strictness) (*call, error) {
	parse := network.ParseConfig
	if how == forgiving {
		parse = network.ParseForDEL
	}
	config, err := parse(args.StdinData)
	if err != nil {
		return nil, err
	}
	if args.IfName != "" {
		if err = network.ValidateInterface("CNI_IFNAME", args.IfName); err != nil {
			return nil, network.Environment.Errorf("%w", err)
		}
	}
	c := &call{plugin: p, args: args, config: config}
	if c.cniArgs, err = parseArgs(args.Args); err != nil {
		return nil, err
	}
	if c.boot, err = podns.BootID(p.BootIDPath); err != nil {
		return nil, network.IO.Errorf("%w", err)
	}
	embedded, refused := p.embedded(config.Embedded)
	if refused != nil && how == strict {
		return nil, refused
	}
	c.log, c.logFile = newLog(config, p.Stderr)
	c.log = c.log.With("container", args.ContainerID, "ifname", args.IfName)
	if refused != nil {
		c.log.Warn("a plugin that is to run in process is left out", "error", refused.Error())
	}
	c.runner = &delegate.Runner{
		Path: searchPath(args.Path, config.BinDir), CacheDir: filepath.Join(config.StateDir, "cache"), StateDir: config.StateDir,
		Embedded: embedded, Stderr: p.Stderr, Self: p.Self,
	}
	c.store = &journal.Store{Dir: config.StateDir, Now: p.Now}
	c.planner = &plan.Planner{Config: config, Warn: func(msg string) { c.log.Warn(msg) }}
	files := plan.NewDir(config.ConfDir, network.Isolation{On: config.NamespaceIsolation, Global: config.GlobalNamespaces})
	c.planner.Definitions, c.planner.Files = files, files
	if config.AgentSocket != "" {
		c.agent = &fromAgent{call: c, files: plan.NewDir(config.ConfDir, network.Isolation{})}
		c.planner.Definitions, c.planner.Devices = c.agent, c.agent.devices
	}
	return c, nil
}

func (c *call) close() {
	if c.logFile != nil {
		// The log was written through; there is nobody left to tell.
		_ = c.logFile.Close()
	}
}

// embedded returns the plugins that the configuration wants in process and
// this build has. The error is about the others.
func (p *Plugin) embedded(wanted []string) (known map[string]network.Embedded, err error) {
	if wanted == nil {
		return p.Embedded, nil
	}
	known = map[string]network.Embedded{}
	for _, pluginType := range wanted {
		plugin, ok := p.Embedded[pluginType]
		if !ok {
			err = network.Invalid.Errorf("embedded: this build has no plugin %q of its own, but %q", pluginType, slices.Sorted(maps.Keys(p.Embedded)))
			continue
		}
		known[pluginType] = plugin
	}
	return known, err
}

// searchPath is CNI_PATH with binDir behind it.
func searchPath(cniPath, binDir string) []string {
	path := filepath.SplitList(cniPath)
	if binDir != "" && !slices.Contains(path, binDir) {
		path = append(path, binDir)
	}
	return path
}

// parseArgs reads CNI_ARGS, "K=V;K=V".
func parseArgs(s string) ([][2]string, error) {
	var out [][2]string
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || !utf8.ValidString(pair) {
			return nil, network.Environment.Errorf("CNI_ARGS: %q is no KEY=VALUE pair", pair)
		}
		out = append(out, [2]string{key, value})
	}
	return out, nil
}

// podOf reads the pod's name out of CNI_ARGS.
func podOf(args [][2]string) plan.Pod {
	pod := plan.Pod{Namespace: "default"}
	for _, kv := range args {
		switch {
		case kv[0] == "K8S_POD_NAMESPACE" && kv[1] != "":
			pod.Namespace = kv[1]
		case kv[0] == "K8S_POD_NAME":
			pod.Name = kv[1]
		case kv[0] == "K8S_POD_UID":
			pod.UID = kv[1]
		}
	}
	return pod
}

// pod returns what the runtime says of the pod.
func (c *call) pod() (plan.Pod, error) {
	pod := podOf(c.cniArgs)
	if err := network.ValidateNamespace("K8S_POD_NAMESPACE in CNI_ARGS", pod.Namespace); err != nil {
		return pod, network.Environment.Errorf("%w", err)
	}
	raw, delivered := c.config.RuntimeConfig[network.PodAnnotations]
	if !delivered {
		return pod, nil
	}
	if err := json.Unmarshal(raw, &pod.Annotations); err != nil {
		return pod, network.Invalid.Errorf("runtimeConfig[%q]: want an object of strings: %w", network.PodAnnotations, err)
	}
	pod.Annotations = orEmpty(pod.Annotations) // null: containerd's for a pod without any
	return pod, nil
}

// complete adds what the runtime does not say. A pod whose annotations nobody
// knows is an error: its networks must not be dropped in silence.
func (c *call) complete(ctx context.Context, pod *plan.Pod) error {
	if c.agent != nil {
		return c.agent.complete(ctx, pod)
	}
	if pod.Annotations == nil && pod.Name != "" {
		return c.notDelivered()
	}
	return nil
}

func (c *call) notDelivered() error {
	if c.config.Capabilities[network.PodAnnotations] {
		return network.Invalid.Errorf("the pod's annotations were not delivered, although multiplexer's configuration declares the capability %q: the runtime sent none; it has to be one that knows this capability, as containerd and CRI-O do", network.PodAnnotations)
	}
	return network.Invalid.Errorf("the pod's annotations were not delivered: add \"capabilities\": {%q: true} to multiplexer's configuration", network.PodAnnotations)
}
