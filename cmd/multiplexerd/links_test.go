package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Below --host-root a link of the node leads to where it does on the node, and
// never to the directories of the container that the installer runs in.
func TestLinksOfTheNode(t *testing.T) {
	n := newTree(t)
	elsewhere := t.TempDir() // what a link that is followed plainly reaches
	for dir, to := range map[string]string{"/etc/cni/net.d": "/conf", "/opt/cni/bin": "/bin", "/var/lib/cni": "/state"} {
		target := filepath.Join(elsewhere, to)
		if err := os.MkdirAll(filepath.Join(n.root, elsewhere, to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(n.at(dir)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(n.at(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, n.at(dir)); err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) string { return filepath.Join(n.root, elsewhere, path) }
	n.put(filepath.Join(elsewhere, "conf/10-cluster.conflist"), clusterConf)
	n.put(filepath.Join(elsewhere, "bin/bridge"), "")
	// A conf that is a link itself is replaced, and what it leads to is not.
	n.put("/etc/kept.conflist", "kept")
	if err := os.Symlink("/etc/kept.conflist", there("conf/00-multiplexer.conflist")); err != nil {
		t.Fatal(err)
	}

	if out, err := n.install("--set", "agentSocket="); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{"conf/00-multiplexer.conflist", "bin/multiplexer", "state/multiplexer/installed.json"} {
		if info, err := os.Lstat(there(path)); err != nil || !info.Mode().IsRegular() {
			t.Errorf("after install: %s: %v, %v", path, info, err)
		}
	}
	if n.get("/etc/kept.conflist") != "kept" {
		t.Errorf("what the conf was a link to: %q", n.get("/etc/kept.conflist"))
	}

	if out, _, err := n.run("uninstall", "--host-root", n.root, "--settle", "1ms"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{"conf/00-multiplexer.conflist", "bin/multiplexer"} {
		if _, err := os.Lstat(there(path)); !os.IsNotExist(err) {
			t.Errorf("after uninstall: %s: %v", path, err)
		}
	}
	left, err := os.ReadDir(elsewhere)
	if err != nil || len(left) > 0 {
		t.Errorf("%s of this process's own root has %v, %v", elsewhere, left, err)
	}
	if raw, readErr := os.ReadFile(there("conf/10-cluster.conflist")); readErr != nil || !strings.Contains(string(raw), "cniVersion") {
		t.Errorf("the cluster's conf: %s, %v", raw, readErr)
	}
}
