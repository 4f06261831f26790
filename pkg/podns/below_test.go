package podns

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBelow(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"run/netns", "var", "etc/cni"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"var/run": "/run", "var/rel": "../run", "etc/up": "../../../../run", "etc/chain": "/var/run/netns", "etc/loop": "/etc/loop", "etc/cni/here": ".", "etc/top": "/",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/run/netns/a":         "/run/netns/a",
		"/var/run/netns/a":     "/run/netns/a",
		"/var/rel/netns":       "/run/netns",
		"/etc/up/x":            "/run/x",
		"/etc/chain/b":         "/run/netns/b",
		"/etc/cni/here/here/c": "/etc/cni/c",
		"/etc/top/run":         "/run",
		"/../../run/./netns/":  "/run/netns",
		"/none/a/../b":         "/none/b",
		"/etc/loop/x":          "/etc/loop/x",
		"/":                    "",
	} {
		if got := Below(root, path); got != root+want {
			t.Errorf("%s: %s, want %s", path, got, root+want)
		}
	}
	if got := Below("/", "/var/run/../x"); got != "/var/x" {
		t.Error(got)
	}
}

func TestVisible(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "run", "netns"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A container may have /run/netns and nothing at /var/run.
	for path, want := range map[string]bool{"/run/netns/a": true, "/var/run/netns/a": true, "/var/netns/a": false, "/run/other/a": false} {
		if got := Visible(root, path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
