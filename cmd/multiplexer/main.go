// Command multiplexer is the CNI plugin: the wire, and nothing else. CNI 1.1
// hands it a verb and arguments in the environment and a configuration on
// standard input; it prints a result or an error as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	cni "github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/fixipam"
	"github.com/multiplexer-cni/multiplexer/pkg/multiplexer"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

var version = "dev" // set by the linker

func main() {
	// A call waits for one delegate at a time: threads of its own would only
	// wake each other up. It lives for milliseconds: collecting garbage would
	// cost more than it frees. The limit keeps a call with a huge input small.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(12 << 20)
	os.Exit(run())
}

func run() int {
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		return printVersion()
	}
	if container := os.Getenv(delegate.NestedEnv); container != "" {
		if os.Getenv("CNI_COMMAND") == "DEL" {
			return 0 // the ADD was refused: there is nothing to undo
		}
		return fail(cni.Current(), types.NewError(types.ErrInvalidNetworkConfig,
			"multiplexer was called by a delegate of its own, for container "+container+": one of that pod's networks leads back to multiplexer; correct the network's plugin", ""))
	}
	ctx := untilToldToEnd()
	self, err := os.Executable()
	if err != nil {
		return fail(cni.Current(), types.NewError(types.ErrInternal, "find the plugin's own executable: "+err.Error(), ""))
	}
	stderr := multiplexer.NewPatient(os.Stderr)
	defer stderr.Close()
	const bootID = "/proc/sys/kernel/random/boot_id"
	p := &multiplexer.Plugin{
		Embedded: embedded(bootID, stderr), Stdout: os.Stdout, Stderr: stderr,
		Self: self, BootIDPath: bootID, Now: time.Now,
		DeviceInfoDir: "/var/run/k8s.cni.cncf.io/devinfo",
	}
	if len(os.Args) > 1 && os.Args[1] == "release" && os.Getenv("CNI_COMMAND") == "" {
		return release(ctx, p)
	}
	var stdin []byte
	bind := func(verb func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			stdin = args.StdinData
			return verb(ctx, args)
		}
	}
	if e := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: bind(p.Add), Del: bind(p.Del), Check: bind(p.Check), GC: bind(p.GC), Status: bind(p.Status),
	}, cni.All, "CNI plugin multiplexer "+version); e != nil {
		return fail(spoken(stdin), e)
	}
	return 0
}

// release does what is marked for release, without any runtime. It takes a
// configuration on standard input as the verbs do, and CNI_PATH.
func release(ctx context.Context, p *multiplexer.Plugin) int {
	stdin, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = p.Release(ctx, &skel.CmdArgs{StdinData: stdin, Path: os.Getenv("CNI_PATH")})
	}
	if err == nil {
		return 0
	}
	var e *types.Error
	if !errors.As(err, &e) {
		e = types.NewError(types.ErrIOFailure, "release: "+err.Error(), "")
	}
	return fail(spoken(stdin), e)
}

// embedded are the plugins that run in this process.
func embedded(bootID string, stderr io.Writer) map[string]network.Embedded {
	const sys = sriov.Sysfs("/sys")
	return map[string]network.Embedded{
		"sriov": &sriov.Plugin{
			Sys: sys, Kernel: sriov.Linux{Sys: sys}, Foreign: "/var/lib/cni/sriov",
			BootIDPath: bootID, Stderr: stderr, Now: time.Now,
		},
		"fixipam": fixipam.Plugin{},
	}
}

// untilToldToEnd returns a context that a signal to end ends: what was done is
// undone then. A runtime that is gone (SIGPIPE) must not end us in the middle;
// ignoring that signal would hand the ignoring on to delegates.
func untilToldToEnd() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE)
	go func() {
		for s := range signals {
			if s != syscall.SIGPIPE {
				cancel()
			}
		}
	}()
	return ctx
}

// spoken is the version that an error is printed in: the configuration's, or
// the newest where skel refused the call before the configuration was read.
func spoken(stdin []byte) string {
	if v, err := create.DecodeVersion(stdin); err == nil {
		return v
	}
	return cni.Current()
}

// printVersion answers VERSION, whatever the configuration looks like. The
// version asked with is echoed (CNI 1.1 section 2, VERSION).
func printVersion() int {
	asked := cni.Current()
	if stdin, err := io.ReadAll(os.Stdin); err == nil {
		var in struct {
			CNIVersion string `json:"cniVersion"`
		}
		if json.Unmarshal(stdin, &in) == nil && in.CNIVersion != "" {
			asked = in.CNIVersion
		}
	}
	return print(map[string]any{"cniVersion": asked, "supportedVersions": cni.All.SupportedVersions()}, 0)
}

// fail prints an error as CNI 1.1 section 5 has it; skel leaves cniVersion
// out.
func fail(cniVersion string, e *types.Error) int {
	out := map[string]any{"cniVersion": cniVersion, "code": e.Code, "msg": e.Msg}
	if e.Details != "" {
		out["details"] = e.Details
	}
	return print(out, 1)
}

func print(out map[string]any, exitCode int) int {
	raw, err := json.MarshalIndent(out, "", "    ")
	if err == nil {
		_, err = fmt.Fprintf(os.Stdout, "%s\n", raw)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "multiplexer: print the answer:", err)
		return 1
	}
	return exitCode
}
