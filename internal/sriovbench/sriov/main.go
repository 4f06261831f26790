// Command sriov is the embedded plugin sriov as an executable of its own, for
// the bench only: to show what embedding saves. It keeps its claims in the
// "bench.stateDir" of its configuration, where there is no multiplexer to say it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func main() {
	// As multiplexer does.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	verb := func(command string) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return run(command, args) }
	}
	funcs := skel.CNIFuncs{Add: verb("ADD"), Del: verb("DEL"), Check: verb("CHECK"), GC: verb("GC"), Status: verb("STATUS")}
	if e := skel.PluginMainFuncsWithError(funcs, version.All, "CNI plugin sriov, for the bench"); e != nil {
		if err := e.Print(); err != nil {
			fmt.Fprintln(os.Stderr, "sriov: print the error:", err)
		}
		os.Exit(1)
	}
}

func run(command string, args *skel.CmdArgs) error {
	var conf struct {
		StateDir string `json:"bench.stateDir"`
	}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil || conf.StateDir == "" {
		return types.NewError(types.ErrInvalidNetworkConfig, `want "bench.stateDir" in the configuration`, "")
	}
	const sys = sriov.Sysfs("/sys")
	plugin := &sriov.Plugin{
		Sys: sys, Kernel: sriov.Linux{Sys: sys}, Foreign: "/var/lib/cni/sriov",
		BootIDPath: "/proc/sys/kernel/random/boot_id", Stderr: os.Stderr, Now: time.Now,
	}
	out, err := plugin.Run(context.Background(), network.Call{
		Command: command, ContainerID: args.ContainerID, Netns: args.Netns, IfName: args.IfName, Args: args.Args,
		Path: filepath.SplitList(args.Path), Stdin: args.StdinData, StateDir: conf.StateDir, Exec: start,
	})
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	return err
}

// start runs IPAM as plugins do, with libcni's own means.
func start(ctx context.Context, pluginType string, call network.Call) ([]byte, error) {
	path, err := invoke.FindInPath(pluginType, call.Path)
	if err != nil {
		return nil, err
	}
	args := invoke.Args{
		Command: call.Command, ContainerID: call.ContainerID, NetNS: call.Netns, IfName: call.IfName,
		PluginArgsStr: call.Args, Path: strings.Join(call.Path, string(os.PathListSeparator)),
	}
	return (&invoke.RawExec{Stderr: os.Stderr}).ExecPlugin(ctx, path, call.Stdin, args.AsEnv())
}
