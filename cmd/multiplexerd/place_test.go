package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/doctor"
)

// placedNode is a node whose conf names a stateDir of its own.
func placedNode(t *testing.T) *tree {
	t.Helper()
	n := newTree(t)
	n.put("/etc/cni/net.d/00-multiplexer.conflist", `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"multiplexer","stateDir":"/state","agentSocket":""}]}`)
	return n
}

// Lists look where the plugin has its journals and claims, as doctor does;
// --state-dir counts more.
func TestListsFindTheDirectory(t *testing.T) {
	n := placedNode(t)
	writeJournal(t, n.at("/state"), "4c1f", "shop/web-0")
	writeJournal(t, n.at("/other"), "9aaa", "shop/web-1")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "4c1f"}, {[]string{"4c"}, "shop/web-0"}, {[]string{"--state-dir", "/other"}, "9aaa"},
		{[]string{"--state-dir", "/none"}, "--state-dir has to be stateDir"},
	} {
		out, bad, err := n.run(append([]string{"journal", "--host-root", n.root}, c.args...)...)
		if !strings.Contains(out+bad, c.want) || (err != nil) != (out == "") {
			t.Errorf("%v: %v: %s%s", c.args, err, out, bad)
		}
	}
	if _, bad, err := newTree(t).run("journal", "--host-root", t.TempDir()); err == nil || !strings.Contains(bad, "nothing was attached on this node yet") {
		t.Errorf("no directory: %v: %s", err, bad)
	}
	claim := filepath.Join("/state/vf", "0000:01:10.0.json")
	n.put(claim, "{")
	sys := fakePF(t, true)
	if _, bad, err := n.run("vfs", "--host-root", n.root, "--sysfs", sys); err == nil || !strings.Contains(bad, claim) {
		t.Errorf("vfs: %v: %s", err, bad)
	}
	n.put("/state/provision.json", "{")
	n.put("/etc/multiplexer/devices/config.json", `{"resourceList":[]}`)
	if _, bad, err := n.run("devices", "--host-root", n.root, "--sysfs", sys); err == nil || !strings.Contains(bad, n.at("/state/provision.json")) {
		t.Errorf("devices: %v: %s", err, bad)
	}
	t.Chdir(n.at("/etc/multiplexer"))
	n.put("/state/provision.json", "[]")
	if out, bad, err := n.run("devices", "--host-root", n.root, "--sysfs", sys, "--device-config", "devices/config.json"); err != nil || !strings.Contains(out, "devices/config.json") {
		t.Errorf("a file beside us: %v: %s%s", err, out, bad)
	}
	if got := completed(t, "journal", "--host-root", n.root, ""); len(got) != 1 || !strings.HasPrefix(got[0], "4c1f") {
		t.Errorf("completion: %q", got)
	}
}

// kubelet's socket and the device plugin's file are the node's, too.
func TestHostRootOfKubeletAndDevices(t *testing.T) {
	d := newDoctorOn(t, "")
	for _, dir := range []string{"/var/lib/kubelet/pod-resources", "/var/lib/kubelet/device-plugins", "/etc/multiplexer/devices"} {
		if err := os.MkdirAll(filepath.Join(d.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	kubelet, err := kubelettest.New(filepath.Join(d.root, "var/lib/kubelet/pod-resources/kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer kubelet.Stop() //nolint:errcheck // the test's own
	if err = os.WriteFile(filepath.Join(d.root, "etc/multiplexer/devices/config.json"), []byte(`{"resourceList":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.defaults = true
	d.found("kubelet", doctor.OK, "Get, List")
	d.found("device plugin", doctor.Warn, "is empty: no device is offered")
}
