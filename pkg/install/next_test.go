package install

import (
	"context"
	"os"
	"testing"
)

// Without our conf and our plugin, the runtime's next file must start pods.
func TestUninstallLooksAtWhatIsNext(t *testing.T) {
	n := newInstalled(t)
	n.put("/etc/cni/net.d/00-multus.conf", multusFirst) // Multus was deleted, and left it
	err := n.restarted().Uninstall(t.Context(), n.removal(&journals{}))
	if err == nil || !n.there(confFile) || !n.there(pluginFile) {
		t.Fatalf("err %v, conf there: %t, plugin there: %t", err, n.there(confFile), n.there(pluginFile))
	}
	wantText(t, err.Error(), "/etc/cni/net.d/00-multus.conf", `"multus-shim" is not in /opt/cni/bin`, "remove that file")
	n.put("/opt/cni/bin/multus-shim", "") // or it runs
	if err = n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	if told := n.heard(Removed)[0]; !told.Warning {
		t.Errorf("%+v", told)
	} else {
		wantText(t, told.Message, "/etc/cni/net.d/00-multus.conf (multus-shim) is first now")
	}
}

// The plugin of the next conf may be in any directory that the runtime searches,
// and where one alone is known, that is said.
func TestUninstallLooksWhereTheRuntimeSearches(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/etc/containerd/config.toml", "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/var/lib/cni/bin', '/opt/cni/bin']\n")
	n.put("/var/lib/cni/bin/portmap", "")
	var err error
	if n.Paths, err = Detect(n.root, Given{}); err != nil {
		t.Fatal(err)
	}
	if n.Search, err = SearchDirs(n.root, Given{}); err != nil {
		t.Fatal(err)
	}
	if err = n.Install(t.Context(), serving); err != nil || !n.there("/var/lib/cni/bin/"+PluginName) {
		t.Fatalf("err %v, plugins %q", err, n.files("/var/lib/cni/bin"))
	}
	n.put("/etc/cni/net.d/00-multus.conf", multusFirst)
	err = n.restarted().Uninstall(t.Context(), n.removal(&journals{}))
	if err == nil || !n.there(confFile) {
		t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
	}
	wantText(t, err.Error(), `"multus-shim" is not in /var/lib/cni/bin or /opt/cni/bin: no pod could start`)
	n.put("/opt/cni/bin/multus-shim", "")
	one := n.restarted()
	one.Search = nil
	if err = one.Uninstall(t.Context(), n.removal(&journals{})); err == nil || !n.there(confFile) {
		t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
	}
	wantText(t, err.Error(), "not in /var/lib/cni/bin (no other directory was looked at", "run multiplexerd uninstall on the node, without --cni-bin-dir")
	if err = n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) {
		t.Errorf("err %v, conf there: %t", err, n.there(confFile))
	}
}

// A cluster network that only our conf leads to is none for the runtime.
func TestUninstallLeavesAConf(t *testing.T) {
	const elsewhere = "/run/multus/cni/net.d"
	installed := func(t *testing.T, options string) *node {
		t.Helper()
		n := newNode(t)
		n.put(elsewhere+"/10-flannel.conflist", flannel)
		n.Options = []byte(options)
		if err := n.Install(t.Context(), serving); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for name, options := range map[string]string{
		"a directory": `{"clusterNetwork":"` + elsewhere + `"}`,
		"a file":      `{"clusterNetwork":"` + elsewhere + `/10-flannel.conflist"}`,
		"inline":      `{"delegates":[` + flannel + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			n := installed(t, options)
			// By another process, which has no options.
			again := func() *Installer { r := n.restarted(); r.Options = nil; return r }
			err := again().Uninstall(t.Context(), n.removal(&journals{}))
			if err == nil || !n.there(confFile) || !n.there(pluginFile) {
				t.Fatalf("err %v, conf there: %t, plugin there: %t", err, n.there(confFile), n.there(pluginFile))
			}
			wantText(t, err.Error(), "no other conf is in /etc/cni/net.d", "put the cluster network's", "into /etc/cni/net.d", "uninstall again")
			if name != "inline" {
				wantText(t, err.Error(), "clusterNetwork", elsewhere)
			}
			wantText(t, err.Error(), "or use --force")
			n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
			if err = again().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) {
				t.Errorf("err %v, conf there: %t", err, n.there(confFile))
			}
		})
	}
	t.Run("by force", func(t *testing.T) {
		n := installed(t, `{"clusterNetwork":"`+elsewhere+`"}`)
		removal := n.removal(&journals{})
		removal.Detach = func(context.Context, Pod) error { return nil }
		if err := n.restarted().Uninstall(t.Context(), removal); err != nil || n.there(confFile) {
			t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
		}
		if told := n.heard(Removed)[0]; !told.Warning {
			t.Errorf("%+v", told)
		}
	})
	t.Run("gone, or not seen", func(t *testing.T) {
		n := installed(t, `{"clusterNetwork":"`+elsewhere+`"}`)
		if err := os.RemoveAll(n.path("/run/multus")); err != nil {
			t.Fatal(err)
		}
		inPod := n.restarted()
		inPod.Unseen = func(path string) bool { return path == elsewhere+"/10-flannel.conflist" }
		err := inPod.Uninstall(t.Context(), n.removal(&journals{}))
		if err == nil || !n.there(confFile) {
			t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
		}
		wantText(t, err.Error(), elsewhere, "cannot be seen from here", "run multiplexerd uninstall on the node")
		if err = n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) {
			t.Errorf("err %v, conf there: %t", err, n.there(confFile))
		}
	})
}

func TestUninstallSaysWhatIsNext(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(n *node)
		want    string
		warns   bool
	}{
		"the cluster network": {func(n *node) { n.put("/opt/cni/bin/flannel", ""); n.put("/opt/cni/bin/portmap", "") }, `first again: /etc/cni/net.d/10-flannel.conflist (network "cbr0")`, false},
		"nothing":             {func(n *node) { _ = os.Remove(n.path("/etc/cni/net.d/10-flannel.conflist")) }, "no other conf is there", true},
		"a spoilt file":       {func(n *node) { n.put("/etc/cni/net.d/10-flannel.conflist", "{") }, "/etc/cni/net.d/10-flannel.conflist is first now, and cannot be read", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newInstalled(t)
			c.prepare(n)
			if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) {
				t.Fatalf("err %v", err)
			}
			told := n.heard(Removed)[0]
			wantText(t, told.Message, c.want)
			if told.Warning != c.warns {
				t.Errorf("warning: %t", told.Warning)
			}
		})
	}
}

// A conf that somebody wrote by hand, under another name, needs the plugin.
func TestUninstallKeepsThePluginForAConfByHand(t *testing.T) {
	n := newInstalled(t)
	byHand := "/etc/cni/net.d/20-ours.conflist"
	n.put(byHand, n.get(confFile))
	err := n.restarted().Uninstall(t.Context(), n.removal(&journals{}))
	if err == nil || n.there(confFile) || !n.there(pluginFile) {
		t.Fatalf("err %v, conf there: %t, plugin there: %t", err, n.there(confFile), n.there(pluginFile))
	}
	wantText(t, err.Error(), byHand, "so the plugin stays", "uninstall again")
	if err = os.Remove(n.path(byHand)); err != nil {
		t.Fatal(err)
	}
	if err = n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(pluginFile) {
		t.Errorf("err %v, plugin there: %t", err, n.there(pluginFile))
	}
}
