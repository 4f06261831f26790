package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const (
	oldState = "/srv/state"
	newState = "/var/lib/elsewhere"
)

// inState is an installation with a stateDir of its own, by another process.
func (n *node) inState(dir string) *Installer {
	again := n.restarted()
	again.Options = []byte(`{"stateDir": "` + dir + `"}`)
	return again
}

// newIn is a node that is installed with oldState.
func newIn(t *testing.T, dir string) *node {
	t.Helper()
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.Installation = "daemonset-1"
	if err := n.inState(dir).Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	return n
}

// dir makes the directory of a file that is to be put.
func (n *node) in(path string) string {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(path)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// What is refused leaves nothing: a record in the new stateDir would let a later
// uninstall take the plugin from under the pods of the old one.
func TestInstallThatIsRefusedWritesNothing(t *testing.T) {
	n := newIn(t, oldState)
	n.put(n.in(oldState+"/journal/c1"), "")
	if err := os.Remove(n.path(pluginFile)); err != nil {
		t.Fatal(err)
	}
	err := n.inState(newState).Install(t.Context(), func(context.Context) error {
		t.Error("it waits for the agent before it refuses")
		return nil
	})
	if !errors.Is(err, network.Invalid) || n.there(newState) || n.there(pluginFile) {
		t.Errorf("err %v, %s: %q, plugin there: %t", err, newState, n.files(newState), n.there(pluginFile))
	}
}

// What multiplexer keeps beside journals would be left behind unread too.
func TestInstallKeepsTheStateDirOfMoreThanPods(t *testing.T) {
	for name, c := range map[string]struct{ file, content, want string }{
		"a VF in use":       {"/vf/0000:01:00.1.json", "{}", "vf/0000:01:00.1.json"},
		"VFs that are made": {"/pf/0000:01:00.0.json", "{}", "pf/0000:01:00.0.json"},
		"a PF's status":     {"/provision.json", `[{"pci":"0000:01:00.0"}]`, "provision.json"},
		"confs moved aside": {"/" + recordFile, `{"version":1,"confDir":"/etc/cni/net.d","binDir":"/opt/cni/bin","aside":[{"from":"/etc/cni/net.d/00-a.conf","to":"/etc/cni/net.d/00-a.conf.multiplexer-aside"}]}`, "moved aside"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newIn(t, oldState)
			n.put("/etc/cni/net.d/00-a.conf.multiplexer-aside", multusFirst)
			n.put(n.in(oldState+c.file), c.content)
			was := n.get(confFile)
			err := n.inState(newState).Install(t.Context(), serving)
			if !errors.Is(err, network.Invalid) || n.there(newState) || n.get(confFile) != was {
				t.Fatalf("err %v", err)
			}
			wantText(t, err.Error(), newState, oldState, c.want, "uninstall first")
		})
	}
	t.Run("what says nothing", func(t *testing.T) {
		n := newIn(t, oldState)
		n.put(n.in(oldState+"/vf/0000:01:00.1.lock"), "")
		n.put(oldState+"/provision.json", "[]")
		if err := n.inState(newState).Install(t.Context(), serving); err != nil {
			t.Error(err)
		}
	})
}

// Pods were attached by our conf wherever it is now: renamed by somebody, or
// under a name that somebody gave it.
func TestInstallKeepsTheStateDirOfAConfElsewhere(t *testing.T) {
	for name, file := range map[string]string{
		"renamed": confFile + ".cilium_bak",
		"by hand": "/etc/cni/net.d/20-ours.conflist",
	} {
		t.Run(name, func(t *testing.T) {
			n := newIn(t, oldState)
			n.put(n.in(oldState+"/journal/c1"), "")
			if err := os.Rename(n.path(confFile), n.path(file)); err != nil {
				t.Fatal(err)
			}
			err := n.inState(newState).Install(t.Context(), serving)
			if !errors.Is(err, network.Invalid) || n.there(newState) || n.there(confFile) {
				t.Fatalf("err %v", err)
			}
			wantText(t, err.Error(), newState, "that of "+file+" is "+oldState, "the journals of 1 containers")
			if err = n.inState(oldState).Install(t.Context(), serving); err != nil || !n.there(confFile) {
				t.Errorf("with the same stateDir: %v", err)
			}
		})
	}
	t.Run("a stale copy beside ours", func(t *testing.T) {
		n := newIn(t, oldState)
		n.put(n.in(oldState+"/journal/c1"), "")
		stale := n.get(confFile)
		m := newIn(t, newState)
		m.put(m.in(oldState+"/journal/c1"), "")
		m.put(confFile+".cilium_bak", stale)
		if err := m.inState(newState).Install(t.Context(), serving); err != nil {
			t.Error(err)
		}
	})
}

// The record of a stateDir that was left says nothing any more: an uninstall
// that found it would take the plugin from the pods of the new one.
func TestInstallTakesTheOldRecordAlong(t *testing.T) {
	n := newIn(t, network.DefaultStateDir)
	if err := n.inState(newState).Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if n.there(recordPath) || !n.there(newState+"/"+recordFile) {
		t.Errorf("old %t, new %t", n.there(recordPath), n.there(newState+"/"+recordFile))
	}
	if err := os.Remove(n.path(confFile)); err != nil {
		t.Fatal(err)
	}
	lost := n.restarted()
	lost.Options = nil
	r := n.removal(&journals{})
	r.Assumed = true
	if err := lost.Uninstall(t.Context(), r); err == nil || !n.there(pluginFile) {
		t.Fatalf("err %v", err)
	}
}

// A copy of our conf that somebody made says where its pods have their journals.
func TestUninstallReadsTheStateDirOfACopy(t *testing.T) {
	n := newIn(t, newState)
	n.put(n.in(recordPath), n.get(newState+"/"+recordFile)) // of an installation before
	if err := os.Rename(n.path(confFile), n.path(confFile+".cilium_bak")); err != nil {
		t.Fatal(err)
	}
	for _, assumed := range []bool{true, false} {
		lost := n.restarted()
		lost.Options = nil
		r := n.removal(&journals{})
		r.Assumed = assumed
		err := lost.Uninstall(t.Context(), r)
		if !errors.Is(err, network.Invalid) || !n.there(pluginFile) || n.there(markerFile) {
			t.Fatalf("err %v, plugin there: %t", err, n.there(pluginFile))
		}
		wantText(t, err.Error(), confFile+".cilium_bak", "--state-dir "+newState)
	}
	if err := n.inState(newState).Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(pluginFile) || n.there(confFile+".cilium_bak") {
		t.Errorf("err %v, plugin there: %t", err, n.there(pluginFile))
	}
}

// Who installs with another stateDir while an uninstall waits has pods there
// that it does not wait for.
func TestUninstallMeetsAnotherStateDir(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi()}}
	r := n.removal(j)
	r.Waiting = func([]Pod) {
		if err := n.inState(newState).Install(t.Context(), serving); err != nil {
			t.Error(err)
		}
		j.set()
	}
	err := n.restarted().Uninstall(t.Context(), r)
	if !errors.Is(err, network.Again) || !n.there(confFile) || !n.there(pluginFile) {
		t.Fatalf("err %v, conf there: %t, plugin there: %t", err, n.there(confFile), n.there(pluginFile))
	}
	wantText(t, err.Error(), confFile, "stateDir "+newState, network.DefaultStateDir, "uninstall again")
}

// By the records of Multus its pods are detached: a conf that leads to others
// would not find them. A container may not see them.
func TestInstallKeepsTheRecordsOfMultus(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.Options = []byte(`{"cniDir":"/srv/multus"}`)
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	was := n.get(confFile)
	asked := ""
	for name, c := range map[string]struct {
		recorded string
		err      error
		unseen   bool
		want     string
	}{
		"a pod":          {recorded: "c1", want: "container c1"},
		"not to be read": {err: os.ErrPermission, want: "permission denied"},
		"not to be seen": {unseen: true, want: "cannot be seen from here"},
	} {
		again := n.restarted()
		again.Options = []byte(`{"cniDir":"/other"}`)
		again.Recorded = func(dir string) (string, error) { asked = dir; return c.recorded, c.err }
		again.Unseen = func(path string) bool { return c.unseen && path == "/srv/multus" }
		err := again.Install(t.Context(), serving)
		if err == nil || n.get(confFile) != was {
			t.Fatalf("%s: err %v", name, err)
		}
		wantText(t, err.Error(), "cniDir is to be /other", confFile+" is /srv/multus", c.want)
	}
	if asked != "/srv/multus" {
		t.Errorf("asked of %q", asked)
	}
	again := n.restarted()
	again.Options = []byte(`{"cniDir":"/other"}`)
	again.Recorded = func(string) (string, error) { return "", nil }
	if err := again.Install(t.Context(), serving); err != nil || n.get(confFile) == was {
		t.Errorf("nobody needs them: %v", err)
	}
}
