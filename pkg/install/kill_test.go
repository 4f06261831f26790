package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const childEnv = "INSTALL_TEST_CHILD"

// order is what a child process does, and at which of its steps it is killed.
type order struct {
	Verb, Root, Source, Options string
	KillAt                      int // 0: never
}

// killer is a log that kills the process at a step: before what the step
// says, or right after it.
type killer struct {
	slog.Handler
	at, seen int
}

func (k *killer) Enabled(context.Context, slog.Level) bool { return true }

func (k *killer) Handle(context.Context, slog.Record) error {
	if k.seen++; k.seen == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal is here
	}
	return nil
}

func child() int {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		return 2
	}
	n := &Installer{
		Root: o.Root, Paths: Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd}, Plugin: o.Source,
		Options: []byte(o.Options), TakeOver: true, Now: time.Now, Log: slog.New(&killer{at: o.KillAt}),
	}
	var err error
	switch o.Verb {
	case "install":
		err = n.Install(context.Background(), func(context.Context) error {
			return os.WriteFile(filepath.Join(o.Root, "agent"), nil, 0o600)
		})
	case "uninstall":
		err = n.Uninstall(context.Background(), Removal{
			Pods: func(context.Context) ([]Pod, error) { return nil, nil }, Settle: time.Millisecond, Restore: true,
		})
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run runs a child and reports whether it was killed.
func (o order) run(t *testing.T) (killed bool) {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", o.Verb, err, out)
	}
	return false
}

// valid checks what must be true at every instant: the runtime's first file
// is whole, and its plugin is there, whole; if it is ours, the agent has
// served, and the cluster network that it refers to is there.
func (n *node) valid(when string, plugins ...string) {
	n.t.Helper()
	name, raw := firstConf(n.t, n.path("/etc/cni/net.d"))
	list, err := network.ParseList(name, "", raw)
	if err != nil {
		n.t.Fatalf("%s: the first conf: %v", when, err)
	}
	if !slices.Contains(list.Types(), PluginName) {
		for _, plugin := range list.Types() {
			if !n.there("/opt/cni/bin/" + plugin) {
				n.t.Errorf("%s: %s is first, and its plugin %s is missing", when, name, plugin)
			}
		}
		return
	}
	if !n.there("agent") {
		n.t.Errorf("%s: our conf is first before the agent served", when)
	}
	if info, serr := os.Stat(n.path(pluginFile)); serr != nil || info.Mode().Perm() != 0o755 || !slices.Contains(plugins, n.get(pluginFile)) {
		n.t.Errorf("%s: our conf is first, and the plugin is %q (%v)", when, n.get(pluginFile), serr)
	}
	var cluster string
	if err = json.Unmarshal(n.entry().Plugins[0]["clusterNetwork"], &cluster); err != nil || !n.there(cluster) {
		n.t.Errorf("%s: our conf refers to %q: %v", when, cluster, err)
	}
}

func killNode(t *testing.T) (*node, order) {
	t.Helper()
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	for _, plugin := range []string{"flannel", "portmap", "multus-shim"} {
		writeFile(t, n.path("/opt/cni/bin/"+plugin), "", 0o755)
	}
	return n, order{Root: n.root, Source: n.Plugin}
}

// killedAtEveryStep runs an order again and again on a node made anew, each
// time killed one step later, then finishes it.
func killedAtEveryStep(t *testing.T, least int, prepare func(t *testing.T) (*node, order), after func(n *node, when string)) {
	t.Helper()
	for step := 1; ; step++ {
		n, o := prepare(t)
		when := fmt.Sprintf("%s, killed at step %d", o.Verb, step)
		n.valid("before "+when, "plugin one")
		o.KillAt = step
		killed := o.run(t)
		n.valid(when, "plugin one", "plugin two")
		for _, dir := range []string{"/etc/cni/net.d", "/opt/cni/bin"} {
			for _, name := range n.files(dir) {
				if strings.HasPrefix(name, ".") && slices.Contains(network.ConfExtensions(), filepath.Ext(name)) {
					t.Errorf("%s: the runtime reads the temporary file %s", when, name)
				}
			}
		}
		o.KillAt = 0
		o.run(t)
		after(n, when)
		if !killed {
			if step <= least {
				t.Errorf("%s has %d steps, want %d at least: this test shows too little", o.Verb, step-1, least)
			}
			return
		}
	}
}

func installedWell(n *node, when string) {
	n.t.Helper()
	n.valid(when+", then finished", "plugin two")
	want := []string{ConfName, "00-a-multus.conf" + asideSuffix, "10-flannel.conflist"}
	slices.Sort(want)
	if files := n.files("/etc/cni/net.d"); !slices.Equal(files, want) {
		n.t.Errorf("%s: conf directory %q", when, files)
	}
	if files := n.files("/opt/cni/bin"); !slices.Equal(files, []string{"flannel", PluginName, "multus-shim", "portmap"}) {
		n.t.Errorf("%s: bin directory %q", when, files)
	}
}

func TestKilledInstall(t *testing.T) {
	killedAtEveryStep(t, 12, func(t *testing.T) (*node, order) {
		n, o := killNode(t)
		writeFile(t, n.Plugin, "plugin two", 0o755)
		o.Verb = "install"
		return n, o
	}, installedWell)
}

func TestKilledUpgrade(t *testing.T) {
	killedAtEveryStep(t, 6, func(t *testing.T) (*node, order) {
		n, o := killNode(t)
		o.Verb = "install"
		if o.run(t) {
			t.Fatal("killed without an order")
		}
		writeFile(t, n.Plugin, "plugin two", 0o755)
		o.Options = `{"logLevel":"debug"}`
		return n, o
	}, func(n *node, when string) {
		installedWell(n, when)
		if !strings.Contains(n.get(confFile), "debug") {
			n.t.Errorf("%s: the options are the old ones", when)
		}
	})
}

func TestKilledUninstall(t *testing.T) {
	killedAtEveryStep(t, 8, func(t *testing.T) (*node, order) {
		n, o := killNode(t)
		o.Verb = "install"
		o.run(t)
		o.Verb = "uninstall"
		return n, o
	}, func(n *node, when string) {
		n.valid(when + ", then finished")
		if files := n.files("/etc/cni/net.d"); !slices.Equal(files, []string{"00-a-multus.conf", "10-flannel.conflist"}) {
			n.t.Errorf("%s: conf directory %q", when, files)
		}
		if files := n.files("/opt/cni/bin"); !slices.Equal(files, []string{"flannel", "multus-shim", "portmap"}) {
			n.t.Errorf("%s: bin directory %q", when, files)
		}
		if files := n.files("/var/lib/cni/multiplexer"); !slices.Equal(files, []string{"install.lock", network.UninstallingFile}) {
			n.t.Errorf("%s: state directory %q", when, files)
		}
	})
}
