package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const clusterConf = `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "bridge", "capabilities": {"portMappings": true}}]}`

// tree is a node's directories below a temporary root.
type tree struct {
	*testing.T
	root string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	n := &tree{t, t.TempDir()}
	n.put("/etc/cni/net.d/10-cluster.conflist", clusterConf)
	n.put("/opt/cni/bin/bridge", "")
	return n
}

func (n *tree) at(path string) string { return filepath.Join(n.root, path) }

func (n *tree) put(path, content string) {
	n.Helper()
	if err := os.MkdirAll(filepath.Dir(n.at(path)), 0o755); err != nil {
		n.Fatal(err)
	}
	if err := os.WriteFile(n.at(path), []byte(content), 0o644); err != nil {
		n.Fatal(err)
	}
}

func (n *tree) remove(path string) {
	n.Helper()
	if err := os.Remove(n.at(path)); err != nil {
		n.Fatal(err)
	}
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (n *tree) get(path string) string {
	raw, err := os.ReadFile(n.at(path))
	if err != nil {
		return ""
	}
	return string(raw)
}

// run runs multiplexerd, and returns what it wrote.
func (n *tree) run(args ...string) (stdout, stderr string, err error) {
	n.Helper()
	return n.runUntil(func(string) bool { return false }, args...)
}

// runUntil runs multiplexerd, and ends it when something is so. It is given what
// multiplexerd wrote.
func (n *tree) runUntil(so func(stdout string) bool, args ...string) (stdout, stderr string, err error) {
	n.Helper()
	ctx, end := context.WithCancel(n.Context())
	cmd := command()
	var out, errs output
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil && !so(out.String()) {
			time.Sleep(5 * time.Millisecond)
		}
		end()
	})
	err = cmd.ExecuteContext(ctx)
	end()
	watch.Wait()
	return out.String(), errs.String(), err
}

// output is written by a command, and read while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// install runs install on the tree.
func (n *tree) install(more ...string) (string, error) {
	n.Helper()
	out, _, err := n.run(n.installArgs(more...)...)
	return out, err
}

func (n *tree) installArgs(more ...string) []string {
	n.Helper()
	return append([]string{"install", "--host-root", n.root, "--plugin", nettest.Binary(n)}, more...)
}

func (n *tree) entry() map[string]any {
	n.Helper()
	var list struct{ Plugins []map[string]any }
	if err := json.Unmarshal([]byte(n.get("/etc/cni/net.d/00-multiplexer.conflist")), &list); err != nil || len(list.Plugins) != 1 {
		n.Fatalf("our conf: %v: %s", err, n.get("/etc/cni/net.d/00-multiplexer.conflist"))
	}
	return list.Plugins[0]
}

// --set counts more than --options, values are JSON or text, and what is done
// is told by the node's own paths.
func TestInstallOptions(t *testing.T) {
	n := newTree(t)
	options := filepath.Join(t.TempDir(), "options.json")
	if err := os.WriteFile(options, []byte(`{"logLevel": "debug", "namespaceIsolation": false, "agentSocket": ""}`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := n.install("--options", options, "--set", "logLevel=error", "--set", `routing={"mode":"plain"}`, "--set", `clusterCIDRs=["10.244.0.0/16"]`)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"PluginInstalled /opt/cni/bin/multiplexer", "ConfWritten /etc/cni/net.d/00-multiplexer.conflist", "/etc/cni/net.d/00-multiplexer.conflist is in place", "by the defaults"} {
		if !strings.Contains(out, w) {
			t.Errorf("%q lacks %q", out, w)
		}
	}
	got, err := json.Marshal(n.entry())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"agentSocket":"","capabilities":{"io.kubernetes.cri.pod-annotations":true,"portMappings":true},"clusterCIDRs":["10.244.0.0/16"],` +
		`"clusterConfDir":"/etc/cni/net.d","clusterNetwork":"/etc/cni/net.d/10-cluster.conflist","logLevel":"error","namespaceIsolation":false,"routing":{"mode":"plain"},"type":"multiplexer"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if out, err = n.install("--options", options); err != nil || !strings.Contains(out, "ConfWritten") || n.entry()["logLevel"] != "debug" {
		t.Errorf("anew with other options: %v: %s", err, out)
	}
}

// What is wrong is said before anything is changed; what is missing, when the
// wait for it ends.
func TestInstallRefuses(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "list.json")
	if err := os.WriteFile(list, []byte(`[1]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		want   string
		plugin bool   // it is in place
		waits  string // what it says while it waits, and is ended then
	}{
		{args: []string{"--plugin", "/nowhere/multiplexer"}, want: "--plugin"},
		{args: []string{"--options", "/nowhere/options"}, want: "--options: open /nowhere/options"},
		{args: []string{"--options", list}, want: "want a JSON object"},
		{args: []string{"--set", "logLevel"}, want: `--set "logLevel": want KEY=VALUE`},
		{args: []string{"--set", "name=x"}, want: `"name" is written by install`},
		{args: []string{"--set", "routing=[]"}, want: "routing"},
		{args: []string{"--runtime", "docker"}, want: `--runtime "docker"`},
		{args: []string{"--cni-conf-dir", "net.d"}, want: `--cni-conf-dir "net.d"`},
		{args: []string{"--host-root", "here"}, want: `--host-root "here": want an absolute path`},
		{args: []string{"--set", "agentSocket=" + filepath.Join(dir, "none.sock"), "--timeout", "1s"}, want: `set agentSocket to ""`, plugin: true},
		{args: []string{"--set", "agentSocket=", "--set", "clusterNetwork=/etc/cni/net.d/later.conflist"}, want: "wait for the cluster network in /etc/cni/net.d", plugin: true, waits: "ClusterMissing"},
	} {
		n := newTree(t)
		out, _, err := n.runUntil(func(out string) bool { return c.waits != "" && strings.Contains(out, c.waits) }, n.installArgs(c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s (%s)", c.args, err, c.want, out)
		}
		if n.get("/etc/cni/net.d/00-multiplexer.conflist") != "" {
			t.Errorf("%q: the conf is in place", c.args)
		}
		if there := n.get("/opt/cni/bin/multiplexer") != ""; there != c.plugin {
			t.Errorf("%q: plugin in place: %t", c.args, there)
		}
	}
}

// A plugin that is no plugin is said, also when the time ends while it is tried
// once more.
func TestInstallRefusesAPluginThatIsNone(t *testing.T) {
	n := newTree(t)
	// Beside its place it is one, and in its place no longer.
	n.put("/broken", "#!/bin/sh\ncase $0 in *.new) echo CNI plugin multiplexer v1 >&2; echo '{\"supportedVersions\":[\"1.0.0\"]}'; exit;; esac\nif [ -e "+n.at("/once")+" ]; then : >"+n.at("/twice")+"; exec sleep 60; fi\n: >"+n.at("/once")+"\necho no\n")
	twice := func(string) bool { return exists(n.at("/twice")) }
	out, _, err := n.runUntil(twice, n.installArgs("--plugin", n.at("/broken"), "--set", "agentSocket=")...)
	if err == nil || !strings.Contains(err.Error(), "does not answer VERSION") || n.get("/etc/cni/net.d/00-multiplexer.conflist") != "" {
		t.Errorf("%v: %s", err, out)
	}
}

// Uninstall asks the installed conf where the journals are.
func TestUninstallFindsTheStateDir(t *testing.T) {
	for name, more := range map[string][]string{"from the conf": nil, "from the flag": {"--state-dir", "/srv/state"}} {
		n := newTree(t)
		if out, err := n.install("--set", "agentSocket=", "--set", "stateDir=/srv/state"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		n.journal("/srv/state", "web", []network.Attachment{{Reference: "cluster", Cluster: true}, {Reference: "shop/a"}})
		args := append([]string{"uninstall", "--host-root", n.root, "--timeout", "1s", "--settle", "1ms"}, more...)
		out, _, err := n.run(args...)
		if err == nil || !strings.Contains(err.Error(), "1 pod still has networks: shop/web (shop/a)") || !strings.Contains(out, "shop/web (shop/a)") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if n.get("/srv/state/uninstalling") == "" || n.get("/etc/cni/net.d/00-multiplexer.conflist") == "" {
			t.Errorf("%s: the marker is to be there, and the conf too", name)
		}
		if _, _, err = n.run("uninstall", "--host-root", n.root, "--state-dir", "state"); err == nil || !strings.Contains(err.Error(), "want an absolute path") {
			t.Errorf("%v", err)
		}
	}
}

// journal writes a container's journal, as a plugin leaves it.
func (n *tree) journal(stateDir, container string, attachments []network.Attachment) *journal.Entry {
	n.Helper()
	store := &journal.Store{Dir: n.at(stateDir), Now: time.Now}
	entry, err := store.Create(n.Context(), container)
	if err != nil {
		n.Fatal(err)
	}
	err = entry.Begin(journal.Header{Container: container, Pod: "shop/" + container, IfName: "eth0", Boot: "b"})
	if err == nil {
		_, err = entry.Plan(attachments...)
	}
	for i := range attachments {
		if err == nil {
			err = entry.Adding(i)
		}
		if err == nil {
			err = entry.Added(i, json.RawMessage(`{}`), nil)
		}
	}
	if err == nil {
		err = entry.Ready()
	}
	if err == nil {
		err = entry.Close()
	}
	if err != nil {
		n.Fatal(err)
	}
	return entry
}

// Which pods only multiplexer can delete.
func TestAttached(t *testing.T) {
	n := newTree(t)
	plain := network.Attachment{Reference: "cluster", Cluster: true}
	moved := network.Attachment{Reference: "shop/own", Cluster: true, CapabilityArgs: map[string]json.RawMessage{
		network.PodAnnotations: json.RawMessage(`{"v1.multus-cni.io/default-network":"shop/own"}`),
	}}
	n.journal("/s", "plain", []network.Attachment{plain})
	n.journal("/s", "two", []network.Attachment{plain, {Reference: "shop/a"}, {Reference: "shop/b"}})
	n.journal("/s", "moved", []network.Attachment{moved})
	n.put("/s/journal/empty", "")
	n.put("/s/journal/damaged", "5dd2dc05 {}\n")
	const later = `{"e":"open","v":99}`
	n.put("/s/journal/later", fmt.Sprintf("%08x %s\n", crc32.ChecksumIEEE([]byte(later)), later))
	n.journal("/s", "busy", []network.Attachment{plain})
	n.journal("/s", "ending", []network.Attachment{plain})
	store := &journal.Store{Dir: n.at("/s"), Now: time.Now}
	ending, err := store.Open(t.Context(), "ending")
	if err == nil {
		err = ending.Release("DEL")
	}
	if err == nil {
		err = ending.Deleted(0)
	}
	if err == nil {
		err = ending.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	busy, err := store.Open(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	pods, err := attached{store: store, dir: "/s"}.pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range pods {
		got[p.Container] = p.String()
		if p.Busy != (p.Container == "busy") {
			t.Errorf("%s: busy %t", p.Container, p.Busy)
		}
	}
	for container, want := range map[string]string{
		"plain": "shop/plain", "two": "shop/two (shop/a, shop/b)", "moved": "shop/moved (in place of the cluster network: shop/own)",
		"empty": "container empty (its journal says nothing: delete the pod, or remove /s/journal/empty if it is gone)", "damaged": "container damaged (its journal is damaged: delete the pod)", "busy": "shop/busy", "ending": "shop/ending (its release is unfinished: release interrupted (DEL))",
	} {
		if got[container] != want {
			t.Errorf("%s: %q, want %q", container, got[container], want)
		}
	}
	if len(got) != 8 || !strings.Contains(got["later"], "container later (its journal cannot be read: ") {
		t.Errorf("%q", got)
	}
}

func TestMigrate(t *testing.T) {
	n := newTree(t)
	n.put("/multus.conf", `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist","kubeconfig":"/k","logLevel":"verbose"}`)
	out, warnings, err := n.run("migrate", n.at("/multus.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var options map[string]any
	if err = json.Unmarshal([]byte(out), &options); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if options["clusterNetwork"] != "/etc/cni/net.d/10-flannel.conflist" || options["namespaceIsolation"] != false || options["logLevel"] != "verbose" {
		t.Errorf("%s", out)
	}
	if !strings.Contains(warnings, `"kubeconfig" is left out`) {
		t.Errorf("%s", warnings)
	}
	cmd := command()
	cmd.SetIn(strings.NewReader(n.get("/multus.conf")))
	var again bytes.Buffer
	cmd.SetOut(&again)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"migrate", "-"})
	if err = cmd.Execute(); err != nil || again.String() != out {
		t.Errorf("by standard input: %v: %s", err, again.String())
	}
	for _, bad := range []string{n.at("/nowhere"), n.at("/etc/cni/net.d/10-cluster.conflist")} {
		if out, _, err = n.run("migrate", bad); err == nil || out != "" || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v: %s", bad, err, out)
		}
	}
}

// On CRI-O the plugin stays while a pod needs it, and uninstall says that.
func TestUninstallKeepsThePlugin(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket=", "--runtime", "cri-o"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.journal("/var/lib/cni/multiplexer", "plain", []network.Attachment{{Reference: "cluster", Cluster: true}})
	uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms"}
	out, _, err := n.run(uninstall...)
	if err != nil || !strings.Contains(out, "PluginKept") || !strings.Contains(out, "/opt/cni/bin/multiplexer stays as long as pods need it") || strings.Contains(out, "off this node.") {
		t.Errorf("%v: %s", err, out)
	}
	if n.get("/opt/cni/bin/multiplexer") == "" || n.get("/etc/cni/net.d/00-multiplexer.conflist") != "" {
		t.Error("the plugin is to stay, and the conf not")
	}
	if err = os.Remove(n.at("/var/lib/cni/multiplexer/journal/plain")); err != nil {
		t.Fatal(err)
	}
	if out, _, err = n.run(uninstall...); err != nil || !strings.Contains(out, "multiplexer is off this node.") || n.get("/opt/cni/bin/multiplexer") != "" {
		t.Errorf("again: %v: %s", err, out)
	}
}

// The plugins of the conf that is first then may be in any of the runtime's
// directories.
func TestUninstallSearchesAsTheRuntimeDoes(t *testing.T) {
	n := newTree(t)
	n.put("/etc/crio/crio.conf", "[crio.network]\nplugin_dirs = [\"/var/lib/cni/bin\", \"/opt/cni/bin\"]\n")
	n.put("/var/lib/cni/bin/other", "")
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	n.put("/etc/cni/net.d/00-multus.conf", `{"cniVersion":"1.0.0","name":"m","type":"multus-shim"}`)
	n.put("/opt/cni/bin/multus-shim", "")
	uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout", "30s"}
	if _, _, err := n.run(append(uninstall, "--cni-bin-dir", "/var/lib/cni/bin")...); err == nil || !strings.Contains(err.Error(), "no other directory was looked at") {
		t.Errorf("where one directory is named: %v", err)
	}
	if out, _, err := n.run(uninstall...); err != nil || n.get("/etc/cni/net.d/00-multiplexer.conflist") != "" {
		t.Errorf("%v: %s", err, out)
	}
}

// A DaemonSet's pod sees no configuration of the runtime: the agent's last
// word says which one it is. What nobody knows may be CRI-O.
func TestUninstallOfAnUnknownRuntime(t *testing.T) {
	for runtime, stays := range map[string]bool{network.Containerd: false, network.CRIO: true, "": true} {
		t.Run(runtime, func(t *testing.T) {
			n := newTree(t)
			if out, err := n.install("--set", "agentSocket="); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			n.journal("/var/lib/cni/multiplexer", "plain", []network.Attachment{{Reference: "cluster", Cluster: true}})
			word := &agentapi.Copy{Facts: agentapi.Facts{Runtime: runtime}}
			if err := word.Save(n.at("/var/lib/cni/multiplexer")); err != nil {
				t.Fatal(err)
			}
			out, _, err := n.run("uninstall", "--host-root", n.root, "--settle", "1ms")
			if there := n.get("/opt/cni/bin/multiplexer") != ""; err != nil || there != stays {
				t.Errorf("%v: the plugin is there: %t: %s", err, there, out)
			}
		})
	}
}
