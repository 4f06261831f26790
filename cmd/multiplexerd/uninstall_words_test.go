package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func (n *tree) uninstall(more ...string) (string, error) {
	n.Helper()
	out, _, err := n.run(append([]string{"uninstall", "--host-root", n.root, "--settle", "1ms"}, more...)...)
	return out, err
}

// Where nothing of ours was, a wrong flag is likelier than a node that is clean.
// The marker stands all the same: an agent may come.
func TestUninstallWhereNothingWas(t *testing.T) {
	n := newTree(t)
	out, err := n.uninstall("--state-dir", "/srv/none")
	if err != nil || strings.Contains(out, "off this node") {
		t.Errorf("%v: %s", err, out)
	}
	says(t, out, "nothing of multiplexer was found in /etc/cni/net.d, /opt/cni/bin and /srv/none", "/srv/none stays, so that the agent does not install")
	if n.get("/srv/none/uninstalling") == "" {
		t.Error("no marker")
	}
	n = newTree(t)
	if out, err = n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	for range 2 { // again is no error, and finds the marker
		if out, err = n.uninstall(); err != nil || !strings.Contains(out, "multiplexer is off this node.") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// Who does not restore is told what stays, and how it would get its name back.
func TestUninstallNamesWhatWasMovedAside(t *testing.T) {
	n := newTree(t)
	const multus = "/etc/cni/net.d/00-a.conf"
	n.put(multus, `{"cniVersion":"1.0.0","name":"m","type":"multus"}`)
	if out, err := n.install("--set", "agentSocket=", "--take-over"); err != nil {
		t.Fatal(err, out)
	}
	out, err := n.uninstall()
	if err != nil {
		t.Fatal(err, out)
	}
	says(t, out, "MovedAside "+multus+".multiplexer-aside", "mv "+multus+".multiplexer-aside "+multus)
}

// How often a release failed is no news about who is waited for.
func TestUninstallListsAPodOnce(t *testing.T) {
	n := newTree(t)
	n.journal("/s", "web", []network.Attachment{{Reference: "cluster", Cluster: true}})
	store := &journal.Store{Dir: n.at("/s"), Now: time.Now}
	var texts []string
	for range 2 {
		entry, err := store.Open(t.Context(), "web")
		if err == nil {
			err = entry.Release("DEL")
		}
		if err == nil {
			err = entry.Deleting(0)
		}
		if err == nil {
			err = entry.Failed(0, errors.New("the bridge does not answer"))
		}
		if err == nil {
			err = entry.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		pods, err := attached{store: store, dir: "/s"}.pods(t.Context())
		if err != nil || len(pods) != 1 {
			t.Fatal(err, pods)
		}
		texts = append(texts, pods[0].String())
	}
	if texts[0] != texts[1] || !strings.Contains(texts[0], "release failed (DEL)") {
		t.Errorf("%q", texts)
	}
}

// The time is for the pods: without any, it does not cut the runtime's short.
func TestUninstallTimeoutIsForPods(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	if out, err := n.uninstall("--timeout", "1s", "--settle", "1200ms"); err != nil || n.get(ourPlugin) != "" {
		t.Errorf("%v: %s", err, out)
	}
}

// The marker of an uninstall that is refused stands.
func TestUninstallRefusedSaysThatPodsWait(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatal(err, out)
	}
	n.put("/etc/cni/net.d/00-n.conf", `{"cniVersion":"1.0.0","name":"m","type":"multus"}`)
	out, err := n.uninstall()
	if err == nil || n.get(ourConf) == "" || n.get("/var/lib/cni/multiplexer/uninstalling") == "" {
		t.Fatalf("%v: %s", err, out)
	}
	says(t, err.Error(), "no pod could start", "pods that ask for networks wait", "/var/lib/cni/multiplexer/uninstalling", "multiplexerd install")
}
