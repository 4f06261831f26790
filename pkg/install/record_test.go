package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const recordPath = "/var/lib/cni/multiplexer/" + recordFile

// elsewhere is the installation as an upgrade with another confDir runs it.
func (n *node) elsewhere() *Installer {
	n.put("/srv/net.d/10-flannel.conflist", flannel)
	again := n.restarted()
	again.Paths.ConfDir = "/srv/net.d"
	return again
}

// A runtime may go on with the conf in the old directory. Nobody would take it
// off before its plugin.
func TestInstallKeepsTheConfDir(t *testing.T) {
	n := newInstalled(t)
	record := n.get(recordPath)
	err := n.elsewhere().Install(t.Context(), serving)
	if err == nil || n.there("/srv/net.d/"+ConfName) || n.get(recordPath) != record {
		t.Fatalf("err %v, record %s", err, n.get(recordPath))
	}
	wantText(t, err.Error(), "/srv/net.d", confFile, "uninstall first")

	// As a container sees it, into which the old directory is not mounted.
	hidden := n.path("/etc/cni/net.d")
	if err = os.Rename(hidden, hidden+".hidden"); err != nil {
		t.Fatal(err)
	}
	if err = n.elsewhere().Install(t.Context(), serving); err == nil || n.get(recordPath) != record {
		t.Fatalf("err %v, record %s", err, n.get(recordPath))
	}
	wantText(t, err.Error(), "/srv/net.d", "/etc/cni/net.d, which cannot be seen from here", "--cni-conf-dir (cni.confDir of the chart)")
	if err = n.elsewhere().Uninstall(t.Context(), n.removal(&journals{})); err == nil || !n.there(pluginFile) || n.there(markerFile) {
		t.Fatalf("uninstall does not see the conf: err %v, plugin there: %t", err, n.there(pluginFile))
	}
	wantText(t, err.Error(), recordPath, "/etc/cni/net.d, which cannot be seen from here", "--cni-conf-dir (cni.confDir of the chart)")
	if err = os.Rename(hidden+".hidden", hidden); err != nil {
		t.Fatal(err)
	}

	if err = n.elsewhere().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) || n.there(pluginFile) {
		t.Errorf("uninstall: err %v, conf there: %t, plugin there: %t", err, n.there(confFile), n.there(pluginFile))
	}
	next := n.elsewhere()
	next.Installation = "daemonset-2"
	if err = next.Install(t.Context(), serving); err != nil || !n.there("/srv/net.d/"+ConfName) {
		t.Errorf("after that: err %v", err)
	}
}

// What is no danger is no obstacle.
func TestInstallIntoAnotherConfDir(t *testing.T) {
	t.Run("the old conf was removed", func(t *testing.T) {
		n := newInstalled(t)
		if err := os.Remove(n.path(confFile)); err != nil {
			t.Fatal(err)
		}
		if err := n.elsewhere().Install(t.Context(), serving); err != nil || !n.there("/srv/net.d/"+ConfName) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("the same directory by another name", func(t *testing.T) {
		n := newInstalled(t)
		if err := os.Symlink("/etc/cni/net.d", n.path("/link")); err != nil {
			t.Fatal(err)
		}
		again := n.restarted()
		again.Paths.ConfDir = "/link"
		if err := again.Install(t.Context(), serving); err != nil || !strings.Contains(n.get(confFile), "/link/10-flannel.conflist") {
			t.Errorf("err %v, conf %s", err, n.get(confFile))
		}
	})
	// On k3s, without platform=k3s at first: there never was a cluster network
	// in the default directory, and the container does not see it any more.
	t.Run("it never had a conf", func(t *testing.T) {
		n := newNode(t)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := n.Install(ctx, serving); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := os.Remove(n.path("/etc/cni/net.d")); err != nil {
			t.Fatal(err)
		}
		if err := n.elsewhere().Install(t.Context(), serving); err != nil || !n.there("/srv/net.d/"+ConfName) {
			t.Errorf("err %v", err)
		}
		// From now on it has one.
		ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := n.restarted().Install(ctx, serving); !errors.Is(err, network.Invalid) {
			t.Errorf("back again: %v", err)
		}
	})
}

// An install by hand beside a DaemonSet does not take the node from it: the
// DaemonSet's agent must not undo an uninstall.
func TestInstallByHandBesideADaemonSet(t *testing.T) {
	n := newInstalled(t)
	byHand := n.restarted()
	byHand.Installation = ""
	if err := byHand.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if err := byHand.Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	if err := n.restarted().Install(t.Context(), serving); !errors.Is(err, ErrUninstalled) || n.there(pluginFile) {
		t.Errorf("the agent: err %v, plugin there: %t", err, n.there(pluginFile))
	}
	if err := byHand.Install(t.Context(), serving); err != nil || !n.there(confFile) {
		t.Errorf("by hand: err %v", err)
	}
}

// A node that comes while multiplexer is taken off all nodes: nothing was
// installed yet, so the marker names nobody. Who was there before it is meant.
func TestUninstallBeforeTheFirstInstall(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	agent := func(installation string, created time.Time) error {
		i := n.restarted()
		i.Installation, i.Created = installation, created
		return i.Install(t.Context(), serving)
	}
	begun := n.now()
	if err := agent("daemonset-1", begun.Add(-time.Second)); !errors.Is(err, ErrUninstalled) || n.there(pluginFile) {
		t.Fatalf("the agent: err %v, plugin there: %t", err, n.there(pluginFile))
	}
	// A pod of the same DaemonSet that is made later.
	if err := agent("daemonset-1", begun.Add(time.Hour)); !errors.Is(err, ErrUninstalled) || n.there(pluginFile) {
		t.Fatalf("the agent's next pod: err %v, plugin there: %t", err, n.there(pluginFile))
	}
	if err := agent("daemonset-2", begun.Add(time.Hour)); err != nil || !n.there(confFile) || n.there(markerFile) {
		t.Errorf("another DaemonSet: err %v, conf there: %t", err, n.there(confFile))
	}
}

// An installation by hand that was taken off has no name either, and binds no
// DaemonSet: its agent may have waited for just that.
func TestUninstallByHandBindsNobodyElse(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	if err := n.restarted().Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	agent := n.restarted()
	agent.Installation, agent.Created = "daemonset-1", n.now().Add(-time.Hour)
	if err := agent.Install(t.Context(), serving); err != nil || !n.there(confFile) {
		t.Errorf("err %v, conf there: %t", err, n.there(confFile))
	}
}

// Once our conf is gone, though the plugin stays for pods of CRI-O, the next
// installation chooses its confDir anew.
func TestConfDirAfterTheConf(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/other/10-flannel.conflist", flannel)
	first := n.restarted()
	first.Paths.Runtime = network.CRIO
	if err := first.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	leaving := n.restarted()
	leaving.Paths.Runtime = network.CRIO
	if err := leaving.Uninstall(t.Context(), n.removal(&journals{pods: []Pod{{Container: "c1"}}})); err != nil || !n.there(pluginFile) || n.there(confFile) {
		t.Fatalf("err %v, plugin there: %t, conf there: %t", err, n.there(pluginFile), n.there(confFile))
	}
	again := n.restarted()
	again.Paths.ConfDir = "/other"
	again.Unseen = func(path string) bool { return path == "/etc/cni/net.d" }
	if err := again.Install(t.Context(), serving); err != nil || !n.there("/other/"+ConfName) {
		t.Errorf("err %v, conf there: %t", err, n.there("/other/"+ConfName))
	}
}

// On the node itself a directory that is not there has gone; elsewhere it may
// only not be seen.
func TestHidden(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "net.d")
	for root, want := range map[string]bool{"/": false, t.TempDir(): true} {
		if got := (&Installer{Root: root}).hidden(gone); got != want {
			t.Errorf("below %s: %t", root, got)
		}
	}
}
