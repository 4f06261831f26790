package main

import (
	"os"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const ourConf, ourPlugin = "/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer"

// The plugin has its journals where the conf says. An uninstall that looks
// elsewhere would see no pod, and take their conf away.
func TestUninstallByAnotherStateDir(t *testing.T) {
	for name, test := range map[string]struct{ service, remedy string }{
		"on the node": {"", "leave --state-dir out"},
		"in a pod":    {"10.96.0.1", "set cni.options.stateDir of the chart to /srv/state"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", test.service)
			n := newTree(t)
			if out, err := n.install("--set", "agentSocket=", "--set", "stateDir=/srv/state"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			n.journal("/srv/state", "web", []network.Attachment{{Reference: "cluster", Cluster: true}, {Reference: "shop/a"}})
			uninstall := []string{"uninstall", "--host-root", n.root, "--timeout", "1s", "--settle", "1ms", "--state-dir"}
			out, _, err := n.run(append(uninstall, "/other")...)
			if err == nil {
				t.Fatalf("it uninstalls: %s", out)
			}
			for _, w := range []string{"--state-dir is /other", "stateDir of " + ourConf + " is /srv/state", test.remedy} {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v lacks %q", err, w)
				}
			}
			if n.get(ourConf) == "" || n.get(ourPlugin) == "" || exists(n.at("/other")) || exists(n.at("/srv/state/uninstalling")) {
				t.Error("something was changed")
			}
			if _, _, err = n.run(append(uninstall, "/srv/state/")...); err == nil || !strings.Contains(err.Error(), "shop/web (shop/a)") {
				t.Errorf("the same directory, written otherwise: %v", err)
			}
		})
	}
}

// When the conf has gone, nothing on the node says where the journals are: the
// first uninstall says how to go on, and the second does not guess.
func TestUninstallAgainFromAnotherStateDir(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket=", "--set", "stateDir=/srv/state", "--runtime", "cri-o"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.journal("/srv/state", "plain", []network.Attachment{{Reference: "cluster", Cluster: true}})
	uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--runtime", "cri-o"}
	out, _, err := n.run(uninstall...)
	if err != nil || !strings.Contains(out, "uninstall again with --state-dir /srv/state") {
		t.Errorf("%v: %s", err, out)
	}
	out, _, err = n.run(uninstall...)
	if err == nil {
		t.Fatalf("again, without --state-dir: %s", out)
	}
	for _, w := range []string{"/etc/cni/net.d", "/var/lib/cni/multiplexer", ourPlugin, "--state-dir"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v lacks %q", err, w)
		}
	}
	if n.get(ourPlugin) == "" || exists(n.at("/var/lib/cni/multiplexer")) {
		t.Error("something was changed")
	}
	uninstall = append(uninstall, "--state-dir", "/srv/state")
	if out, _, err = n.run(uninstall...); err != nil || !strings.Contains(out, "PluginKept") || n.get(ourPlugin) == "" {
		t.Errorf("again, while a pod needs the plugin: %v: %s", err, out)
	}
	if err = os.Remove(n.at("/srv/state/journal/plain")); err != nil {
		t.Fatal(err)
	}
	if out, _, err = n.run(uninstall...); err != nil || n.get(ourPlugin) != "" {
		t.Errorf("again: %v: %s", err, out)
	}
}

// A conf and a plugin that were put there by hand have no record. Who names
// the default directory gets them off.
func TestUninstallAgainWithoutARecord(t *testing.T) {
	n := newTree(t)
	n.put("/etc/cni/net.d/00-mine.conflist", `{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"multiplexer"}]}`)
	n.put(ourPlugin, "")
	uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms"}
	if _, _, err := n.run(uninstall...); err == nil || !strings.Contains(err.Error(), "00-mine.conflist calls multiplexer too") ||
		!strings.Contains(err.Error(), "uninstall again with --state-dir "+network.DefaultStateDir) {
		t.Error(err)
	}
	n.remove("/etc/cni/net.d/00-mine.conflist")
	if _, _, err := n.run(uninstall...); err == nil || !strings.Contains(err.Error(), "--state-dir") || !exists(n.at(ourPlugin)) {
		t.Error(err)
	}
	if out, _, err := n.run(append(uninstall, "--state-dir", network.DefaultStateDir)...); err != nil || exists(n.at(ourPlugin)) {
		t.Errorf("%v: %s", err, out)
	}
}
