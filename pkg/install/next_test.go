package install

import (
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

func TestUninstallSaysWhatIsNext(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(n *node)
		want    string
		warns   bool
	}{
		"the cluster network": {func(*node) {}, `first again: /etc/cni/net.d/10-flannel.conflist (network "cbr0")`, false},
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
