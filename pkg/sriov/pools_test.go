package sriov

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is written down of the device plugins is what a pick passes over; other
// devices are not in it, and a node without any has no file.
func TestAdvertise(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	path := filepath.Join(filepath.Dir(c.Dir), "pools.json")
	if err := c.Advertise(map[string][]string{"x/gpu": {"GPU-1"}}); err != nil {
		t.Fatal(err)
	}
	if exists(path) {
		t.Error("a file without VFs")
	}
	if err := c.Advertise(map[string][]string{"x/vf": {"0000:AF:06.1", "0000:af:06.0", "0000:af:06.0"}, "x/gpu": {"GPU-1"}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Advertised()
	if diff := cmp.Diff(map[string]string{"0000:af:06.0": "x/vf", "0000:af:06.1": "x/vf"}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", before.Mode())
	}
	if err = c.Advertise(map[string][]string{"x/vf": {"0000:af:06.0", "0000:af:06.1"}}); err != nil {
		t.Fatal(err)
	}
	if after, statErr := os.Stat(path); statErr != nil || !os.SameFile(before, after) {
		t.Errorf("the same again was written again: %v", statErr)
	}
	if err = c.Advertise(nil); err != nil {
		t.Fatal(err)
	}
	if got, err = c.Advertised(); err != nil || len(got) > 0 {
		t.Errorf("%v, %v after all plugins left", got, err)
	}
}
