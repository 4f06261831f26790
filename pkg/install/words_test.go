package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// What does not run is not put in the place of what does.
func TestThePluginIsTriedBeforeItIsPlaced(t *testing.T) {
	n := newInstalled(t)
	was := n.get(pluginFile)
	var tried []string
	again := n.restarted()
	again.Try = func(_ context.Context, path string) error {
		tried = append(tried, path)
		if n.get("/opt/cni/bin/.multiplexer.new") != "plugin two" || n.get(pluginFile) != was {
			t.Error("it is tried beside the one that is there")
		}
		return errors.New("it is of another machine")
	}
	writeFile(t, n.Plugin, "plugin two", 0o755)
	err := again.Install(t.Context(), serving)
	if err == nil || len(tried) != 1 || n.get(pluginFile) != was || n.there("/opt/cni/bin/.multiplexer.new") {
		t.Fatalf("%v, tried %q, plugin %q", err, tried, n.get(pluginFile))
	}
	wantText(t, err.Error(), "it is of another machine", "plugin and conf are as they were")
	again.Try = func(context.Context, string) error { return nil }
	if err = again.Install(t.Context(), serving); err != nil || n.get(pluginFile) != "plugin two" {
		t.Errorf("%v, plugin %q", err, n.get(pluginFile))
	}
}

// By force, each round takes away what is marked once, whatever the pods are,
// and what stands in the way is said once.
func TestUninstallByForceSaysEachErrorOnce(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi(), {Container: "c4", Name: "shop/web", Networks: []string{"shop/storage"}}}}
	r := n.removal(j)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	marked, releases := 0, 0
	r.Detach = func(context.Context, Pod) error { marked++; return nil }
	r.Release = func(context.Context) error {
		if releases++; releases == 2 {
			cancel()
		}
		return errors.New("the bridge does not answer")
	}
	err := n.restarted().Uninstall(ctx, r)
	if err == nil || marked != 2*releases {
		t.Fatalf("%v: %d marked, %d releases", err, marked, releases)
	}
	wantText(t, err.Error(), "2 pods still have networks", "drain the node", "the bridge does not answer")
	if strings.Count(err.Error(), "the bridge does not answer") != 1 || strings.Contains(err.Error(), "--force") {
		t.Error(err)
	}
}

// The time bounds the wait for pods, and nothing after it.
func TestUninstallTimeout(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi()}}
	r := n.removal(j)
	r.Timeout = 100 * time.Millisecond
	if err := n.restarted().Uninstall(t.Context(), r); !errors.Is(err, network.Again) || !n.there(confFile) {
		t.Errorf("err %v", err)
	}
	j.set()
	r.Settle = 300 * time.Millisecond
	if err := n.restarted().Uninstall(t.Context(), r); err != nil || n.there(pluginFile) {
		t.Errorf("err %v", err)
	}
}

// A conf that is made anew says what it changes, and one in the place of
// something else is a first one.
func TestWhatAConfIsMadeAnewFor(t *testing.T) {
	n := newInstalled(t)
	again := n.restarted()
	again.Options = []byte(`{"logLevel":"debug","agentSocket":"/a"}`)
	if err := again.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	again = n.restarted()
	again.Options = []byte(`{"logLevel":"info","cniDir":"/var/lib/cni/multus"}`)
	if err := again.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	n.put(confFile, "no JSON")
	if err := n.restarted().Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	told := n.heard(ConfWritten)
	for i, want := range []string{"as it is now", "made anew: added: agentSocket, logLevel", "made anew: changed: logLevel; added: cniDir; left out: agentSocket", "as it is now"} {
		if i >= len(told) || !strings.HasSuffix(told[i].Message, want) {
			t.Errorf("%d: %+v, want %s", i, told, want)
		}
	}
}

// By hand, the plugin stays in its directory while it is there.
func TestSameBinDir(t *testing.T) {
	n := newInstalled(t)
	other := n.restarted()
	if err := other.SameBinDir(); err != nil {
		t.Error(err)
	}
	other.Paths.BinDir = "/b"
	if err := other.SameBinDir(); !errors.Is(err, network.Invalid) || !strings.Contains(err.Error(), pluginFile) {
		t.Error(err)
	}
	n.put("/var/lib/cni/multiplexer/"+recordFile, "{}")
	if err := other.SameBinDir(); err != nil {
		t.Errorf("a record that says nothing: %v", err)
	}
	if other.Absent() || !newNode(t).Absent() {
		t.Error("what is there, and what is not")
	}
}

// A stateDir that is another directory too would mix our files with what others
// read there.
func TestStateHasADirectoryOfItsOwn(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	for dir, what := range map[string]string{
		"/etc/cni/net.d": "the runtime's directory", "/etc/cni/net.d/": "the runtime's directory", "/opt/cni/bin": "the directory of plugins", network.MultusRecords: "cniDir",
	} {
		before := n.files(dir)
		err := n.inState(dir).Install(t.Context(), serving)
		if !errors.Is(err, network.Invalid) {
			t.Fatalf("%s: %v", dir, err)
		}
		wantText(t, err.Error(), "stateDir "+dir, what, "a directory of its own")
		if after := n.files(dir); !slices.Equal(after, before) {
			t.Errorf("%s: %q before, %q after", dir, before, after)
		}
	}
}

// A slash at the end of stateDir is no name.
func TestStateWithASlash(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/srv/state/journal/c1", "")
	if err := n.inState("/srv/state/").Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if heard := n.heard(Failed); len(heard) > 0 {
		t.Errorf("%v", heard)
	}
}
