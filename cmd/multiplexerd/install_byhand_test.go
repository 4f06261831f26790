package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// An executable that is no plugin, or another machine's, takes no working
// plugin's place: the conf calls that.
func TestInstallTriesThePluginFirst(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	was, conf := n.get(ourPlugin), n.get(ourConf)
	n.put("/foreign", "\x7fELF of another machine")
	n.put("/slow", "#!/bin/sh\nsleep 30 & wait\n")
	n.put("/other", `#!/bin/sh
[ -z "$CNI_COMMAND" ] && { echo CNI plugin bridge v1 >&2; exit 0; }
echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'
`)
	for bad, why := range map[string]string{
		"/bin/true": "does not answer VERSION as a CNI plugin", n.at("/foreign"): "built for this machine", n.at("/slow"): "does not answer VERSION in time",
		n.at("/other"): "does not say that it is multiplexer",
	} {
		out, err := n.install("--set", "agentSocket=", "--set", "logLevel=debug", "--plugin", bad, "--timeout", "1s")
		if err == nil {
			t.Fatalf("%s: %s", bad, out)
		}
		says(t, err.Error(), why, "plugin and conf are as they were", "--plugin")
		if n.get(ourPlugin) != was || n.get(ourConf) != conf || exists(n.at("/opt/cni/bin/.multiplexer.new")) {
			t.Errorf("%s: plugin or conf were changed, or half a file stays", bad)
		}
	}
}

// A key that nobody reads is most likely misspelt, and the value that counted
// before would be lost. Only a command that somebody gives refuses it: an agent
// may be older than its options.
func TestInstallRefusesAKeyThatIsNotKnown(t *testing.T) {
	n := newTree(t)
	with := []string{"--set", "agentSocket=", "--set", `clusterCIDRs=["10.244.0.0/16"]`}
	if out, err := n.install(with...); err != nil {
		t.Fatal(err, out)
	}
	was := n.get(ourConf)
	options := filepath.Join(t.TempDir(), "options.json")
	if err := os.WriteFile(options, []byte(`{"routing": {"mod": "plain"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flag, value, key, near string }{
		{"--set", `clusterCIDR=["10.244.0.0/16"]`, `"clusterCIDR"`, `did you mean "clusterCIDRs"`},
		{"--set", "confDri=/x", `"confDri"`, `did you mean "confDir"`},
		{"--set", "routing.mode=plain", `"routing.mode"`, `--set 'routing={"mode": ...}'`},
		{"--set", "zzz=1", `"zzz"`, "docs/configuration.md"},
		{"--options", options, `"routing.mod"`, `did you mean "routing.mode"`},
	} {
		out, err := n.install("--set", "agentSocket=", c.flag, c.value)
		if err == nil {
			t.Fatalf("%s: %s", c.value, out)
		}
		says(t, err.Error(), c.key+" is no key", c.near)
		if n.get(ourConf) != was {
			t.Errorf("%s: the conf was changed", c.value)
		}
	}
	// Keys of others, and Multus's that change nothing, are no slip of the pen.
	if out, err := n.install(append(with, "--set", "kubeconfig=/k", "--set", "cni.dev/x=1")...); err != nil {
		t.Error(err, out)
	}
}

// A conf that another one comes before serves no pod.
func TestInstallBehindAnotherConf(t *testing.T) {
	n := newTree(t)
	n.put("/etc/cni/net.d/00-a.conf", `{"cniVersion":"1.0.0","name":"m","type":"multus"}`)
	out, err := n.install("--set", "agentSocket=")
	if err == nil {
		t.Fatal(out)
	}
	says(t, out, "ConfShadowed /etc/cni/net.d/00-a.conf")
	says(t, err.Error(), ourConf+" is in place", "/etc/cni/net.d/00-a.conf comes first")
	if n.get(ourConf) == "" || strings.Contains(out+err.Error(), "new pods come through multiplexer") {
		t.Errorf("%s%v", out, err)
	}
	if out, err = n.install("--set", "agentSocket=", "--take-over"); err != nil || !strings.Contains(out, "new pods come through multiplexer") {
		t.Errorf("%v: %s", err, out)
	}
}

// A host root that is not there is no node.
func TestHostRootThatIsNotThere(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	n := newTree(t)
	for _, args := range [][]string{n.installArgs("--set", "agentSocket=", "--host-root", root, "--timeout", "1s"), {"uninstall", "--host-root", root, "--settle", "1ms"}} {
		out, _, err := n.run(args...)
		if err == nil || !strings.Contains(err.Error(), "--host-root") || exists(root) {
			t.Errorf("%q: %v: %s, made: %t", args, err, out, exists(root))
		}
	}
}

// By what the directories were found is said of each.
func TestInstallSaysByWhat(t *testing.T) {
	const file = "/etc/containerd/config.toml"
	for want, more := range map[string][]string{
		"(directories by " + file + ")":                               nil,
		"(directories by flags)":                                      {"--cni-conf-dir", "/etc/cni/net.d", "--cni-bin-dir", "/b"},
		"(configurations by " + file + ", plugins by --cni-bin-dir)":  {"--cni-bin-dir", "/b"},
		"(configurations by --cni-conf-dir, plugins by " + file + ")": {"--cni-conf-dir", "/etc/cni/net.d"},
	} {
		n := newTree(t)
		n.put(file, "version = 2\n")
		if out, err := n.install(append(more, "--set", "agentSocket=")...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v: %s", more, err, out)
		}
	}
}

// An executable in a directory that nobody searches any more would stay for ever.
func TestInstallKeepsTheDirectoryOfThePlugin(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	out, err := n.install("--set", "agentSocket=", "--cni-bin-dir", "/b")
	if err == nil || exists(n.at("/b")) {
		t.Fatalf("%v: %s", err, out)
	}
	says(t, err.Error(), "/b", ourPlugin, "--cni-bin-dir", "uninstall first")
	if out, err = n.install("--set", "agentSocket=", "--cni-bin-dir", "/opt/cni/bin/"); err != nil {
		t.Errorf("the same one: %v: %s", err, out)
	}
	n.remove(ourPlugin)
	if out, err = n.install("--set", "agentSocket=", "--cni-bin-dir", "/b"); err != nil || n.get("/b/multiplexer") == "" {
		t.Errorf("the old one is removed: %v: %s", err, out)
	}
}

// What was given before and is not now no longer counts: it is named.
func TestInstallAnewNamesTheKeys(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket=", "--set", `clusterCIDRs=["10.244.0.0/16"]`, "--set", "logLevel=error"); err != nil {
		t.Fatal(err, out)
	}
	out, err := n.install("--set", "agentSocket=", "--set", "logLevel=debug", "--set", `routing={"mode":"plain"}`)
	if err != nil {
		t.Fatal(err, out)
	}
	says(t, out, "changed: logLevel", "added: routing", "left out: clusterCIDRs")
	if strings.Contains(out, "made for the cluster network as it is now") {
		t.Error(out)
	}
}

// What is waited for is said at once; in the end, what to do about it too.
func TestInstallSaysWhatItWaitsFor(t *testing.T) {
	n := newTree(t)
	socket := filepath.Join(t.TempDir(), "none.sock")
	out, _, err := n.runUntil(func(out string) bool { return strings.Contains(out, "waits") && strings.Contains(out, socket) }, n.installArgs("--set", "agentSocket="+socket, "--timeout", "20s")...)
	if err == nil || strings.Count(out, socket) > 1 {
		t.Fatalf("%v: %s", err, out)
	}
	says(t, out, "it waits up to 20s", socket)
	says(t, err.Error(), "--set agentSocket=")

	_, err = n.install("--set", "agentSocket=", "--set", "clusterNetwork=/nowhere.conf", "--timeout", "1s")
	if err == nil {
		t.Fatal("no error")
	}
	says(t, err.Error(), "wait for the cluster network", "/nowhere.conf", "no such file", "correct clusterNetwork")
}

// What a value would have to be is said as it is to be written.
func TestInstallSaysHowAValueIsWritten(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"clusterCIDRs=10.244.0.0/16", `--set 'clusterCIDRs=["10.244.0.0/16"]'`},
		{"clusterCIDRs=10.244.0.0/16,10.96.0.0/12", `--set 'clusterCIDRs=["10.244.0.0/16","10.96.0.0/12"]'`},
		{`clusterCIDRs=["10.244.0.0/16"`, "not valid JSON"},
		{`routing={mode:"plain"}`, "not valid JSON"},
	} {
		n := newTree(t)
		out, err := n.install("--set", c.set)
		if err == nil {
			t.Fatalf("%s: %s", c.set, out)
		}
		says(t, err.Error(), c.want)
	}
}

func TestTimeoutIsNotNegative(t *testing.T) {
	n := newTree(t)
	for _, args := range [][]string{n.installArgs("--set", "agentSocket="), {"uninstall", "--host-root", n.root, "--settle", "1ms"}} {
		if out, _, err := n.run(append(slices.Clone(args), "--timeout", "-3s")...); err == nil || !strings.Contains(err.Error(), "--timeout -3s") {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
	if exists(n.at("/var/lib/cni")) {
		t.Error("something was written")
	}
}

// Without --install, nobody reads the options of an installation.
func TestRunSaysThatOptionsAreNotUsed(t *testing.T) {
	n := newTree(t)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, args := range [][]string{{"--set", "logLevel=debug"}, {"--options", "/nowhere"}} {
		_, stderr, err := n.run(append([]string{"run", "--node-name", "n", "--kubeconfig", "/nowhere/config", "--state-dir", n.at("/s")}, args...)...)
		if err == nil || !strings.Contains(stderr, args[0]+" has no effect without --install") {
			t.Errorf("%q: %v: %s", args, err, stderr)
		}
	}
}
