package install

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// A file that is first without ours is not the cluster network for being there:
// where ours leads elsewhere, only a network of its name is.
func TestUninstallKnowsTheClusterNetwork(t *testing.T) {
	const (
		elsewhere = "/run/multus/cni/net.d"
		podman    = `{"cniVersion":"0.4.0","name":"podman","plugins":[{"type":"bridge"}]}`
		loopback  = `{"cniVersion":"0.3.1","name":"lo","type":"loopback"}`
	)
	for name, c := range map[string]struct{ options, file, content, want string }{
		"another network beside a file":      {`{"clusterNetwork":"` + elsewhere + `/10-flannel.conflist"}`, "87-podman.conflist", podman, `network "podman"`},
		"another network beside a directory": {`{"clusterNetwork":"` + elsewhere + `"}`, "87-podman.conflist", podman, `network "podman"`},
		"a loopback beside an inline one":    {`{"delegates":[` + flannel + `]}`, "200-loopback.conf", loopback, `network "lo"`},
		"one that cannot be read":            {`{"clusterNetwork":"` + elsewhere + `/10-flannel.conflist"}`, "10-flannel.conflist", "{", "cannot be read"},
		"one that cannot be read, inline":    {`{"delegates":[` + flannel + `]}`, "10-flannel.conflist", "{", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.put(n.in(elsewhere+"/10-flannel.conflist"), flannel)
			n.Options = []byte(c.options)
			if err := n.Install(t.Context(), serving); err != nil {
				t.Fatal(err)
			}
			n.put("/etc/cni/net.d/"+c.file, c.content)
			err := n.restarted().Uninstall(t.Context(), n.removal(&journals{}))
			if !errors.Is(err, network.Invalid) || !n.there(confFile) || !n.there(pluginFile) {
				t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
			}
			wantText(t, err.Error(), "/etc/cni/net.d/"+c.file, c.want, "put the cluster network's file into /etc/cni/net.d", "or use --force")
			r := n.removal(&journals{})
			r.Detach = func(context.Context, Pod) error { return nil }
			if err = n.restarted().Uninstall(t.Context(), r); err != nil || n.there(confFile) {
				t.Fatalf("by force: err %v, conf there: %t", err, n.there(confFile))
			}
			told := n.heard(Removed)[0]
			if wantText(t, told.Message, c.file); !told.Warning || strings.Contains(told.Message, "first again") {
				t.Errorf("%+v", told)
			}
		})
	}
}

// The cluster network in the runtime's own directory may be exchanged: then
// nobody can tell, and what is first is said.
func TestUninstallSaysThatAnotherIsFirst(t *testing.T) {
	n := newInstalled(t)
	n.put("/opt/cni/bin/cilium-cni", "")
	n.put("/etc/cni/net.d/05-cilium.conflist", `{"cniVersion":"0.4.0","name":"cilium","plugins":[{"type":"cilium-cni"}]}`)
	if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	told := n.heard(Removed)[0]
	if wantText(t, told.Message, `first now: /etc/cni/net.d/05-cilium.conflist (network "cilium")`, "not the network that our conf was made for"); !told.Warning {
		t.Errorf("%+v", told)
	}
}

func TestUninstallSaysThatThePluginOfTheNextIsMissing(t *testing.T) {
	n := newInstalled(t)
	n.put("/opt/cni/bin/flannel", "")
	if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	told := n.heard(Removed)[0]
	if wantText(t, told.Message, "first again: /etc/cni/net.d/10-flannel.conflist", `its plugin "portmap" is not in /opt/cni/bin`); !told.Warning {
		t.Errorf("%+v", told)
	}
}

// Of several files that get their names back, the first counts.
func TestMultusIsNextByName(t *testing.T) {
	const cilium = `{"cniVersion":"0.4.0","name":"x","plugins":[{"type":"genie"}]}`
	for name, c := range map[string]struct {
		multus, rival string
		restored      bool
		want          bool
	}{
		"Multus's comes first":     {"00-a.conf", "00-b.conf", true, true},
		"the rival's comes first":  {"00-b.conf", "00-a.conf", true, false},
		"they stay aside":          {"00-a.conf", "00-b.conf", false, false},
		"no runtime reads its end": {"00-a.txt", "00-b.conf", true, false},
	} {
		n := newInstalled(t)
		var aside []move
		for file, content := range map[string]string{c.multus: multusFirst, c.rival: cilium} {
			m := move{"/etc/cni/net.d/" + file, "/etc/cni/net.d/" + file + asideSuffix}
			n.put(m.To, content)
			aside = append(aside, m)
		}
		if err := n.recordNow(aside...); err != nil {
			t.Fatal(err)
		}
		if got := n.MultusIsNext(c.restored); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	n := newInstalled(t)
	m := move{"/etc/cni/net.d/00-z.conf", "/etc/cni/net.d/00-z.conf" + asideSuffix}
	n.put(m.To, multusFirst)
	if err := n.recordNow(m, m); err != nil {
		t.Fatal(err)
	}
	n.put("/etc/cni/net.d/00-a.conf", cilium)
	if n.MultusIsNext(true) {
		t.Error("the file that is there sorts before what is restored")
	}
	n.put(m.From, cilium)
	n.put("/etc/cni/net.d/00-a.conf", multusFirst)
	if !n.MultusIsNext(true) {
		t.Error("the file that is there is Multus's")
	}
}

// Which confs were moved aside is forgotten with the installation.
func TestRestoreAfterAnUninstallSaysSo(t *testing.T) {
	n := newNode(t)
	n.TakeOver = true
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	again, r := n.restarted(), n.removal(&journals{})
	var said strings.Builder
	again.Log, r.Restore = slog.New(slog.NewTextHandler(&said, nil)), true
	if err := again.Uninstall(t.Context(), r); err != nil || n.there("/etc/cni/net.d/00-a-multus.conf") {
		t.Fatalf("err %v", err)
	}
	wantText(t, said.String(), "level=WARN", "restore", "/etc/cni/net.d/00-a-multus.conf"+asideSuffix, "rename")
}

// A file's name is no line of ours.
func TestEventsQuoteTheNamesOfOthers(t *testing.T) {
	const forged = "/etc/cni/net.d/00-a\nRemoved x: y.conf"
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put(forged, multusFirst)
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	n.TakeOver = true
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if len(n.heard(ConfShadowed)) == 0 || len(n.heard(MovedAside)) == 0 {
		t.Fatalf("%+v", n.events)
	}
	for _, told := range n.events {
		if strings.Contains(told.File+told.Message, "\n") {
			t.Errorf("%+v", told)
		}
	}
}
