package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// vfsOf runs the command.
func vfsOf(args ...string) (stdout, stderr string, err error) {
	var out, bad bytes.Buffer
	cmd := command()
	cmd.SetArgs(append([]string{"vfs"}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&bad)
	err = cmd.Execute()
	return out.String(), bad.String(), err
}

// fakePF is a sysfs with a PF, and with a VF if there is to be one.
func fakePF(t *testing.T, withVF bool) string {
	t.Helper()
	sys := t.TempDir()
	devices := filepath.Join(sys, "bus", "pci", "devices")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(devices, "0000:01:00.0"), 0o700))
	must(os.WriteFile(filepath.Join(devices, "0000:01:00.0", "sriov_totalvfs"), []byte("8\n"), 0o600))
	if withVF {
		must(os.MkdirAll(filepath.Join(devices, "0000:01:10.0"), 0o700))
		must(os.Symlink("../0000:01:00.0", filepath.Join(devices, "0000:01:10.0", "physfn")))
		must(os.Symlink("../0000:01:10.0", filepath.Join(devices, "0000:01:00.0", "virtfn0")))
	}
	return sys
}

func TestVFsOfANodeWithoutPF(t *testing.T) {
	state, empty := t.TempDir(), t.TempDir()
	for format, want := range map[string]string{
		"table": "This node has no network card that can have VFs (no PCI device with sriov_totalvfs).\n", "json": "[]\n",
	} {
		if out, bad, err := vfsOf("--state-dir", state, "--sysfs", empty, "-o", format); out != want || bad != "" || err != nil {
			t.Errorf("%q, %q, %v", out, bad, err)
		}
	}
	if out, bad, err := vfsOf("--state-dir", state, "--sysfs", fakePF(t, false)); !strings.Contains(out, "No PF of this node has VFs: 0000:01:00.0;") || bad != "" || err != nil {
		t.Errorf("%q, %q, %v", out, bad, err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestVFs(t *testing.T) {
	state, sys := t.TempDir(), fakePF(t, true)
	out, bad, err := vfsOf("--state-dir", state, "--sysfs", sys)
	if err != nil || bad != "" {
		t.Errorf("%q, %v", bad, err)
	}
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "PF ") ||
		strings.Join(strings.Fields(lines[1])[:7], " ") != "0000:01:00.0 0 0000:01:10.0 - - - free" {
		t.Errorf("%s", out)
	}
	// What is wrong with one claim does not keep the rows away.
	if err = os.MkdirAll(filepath.Join(state, "vf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(filepath.Join(state, "vf", "0000:01:10.0.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, bad, err = vfsOf("--state-dir", state, "--sysfs", sys, "-o", "json")
	if err == nil || !strings.Contains(bad, "is damaged") {
		t.Errorf("%q, %v", bad, err)
	}
	var rows []sriov.VFRow
	if err = json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || rows[0].State != sriov.Quarantined {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestVFsErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{`--output "xml": want one of table, json`, []string{"-o", "xml"}},
		{"--state-dir has to be stateDir", []string{"--state-dir", filepath.Join(dir, "gone")}},
		{"VF claims in ", []string{"--state-dir", dir, "--sysfs", dir}},
		{"read the PCI devices", []string{"--state-dir", t.TempDir(), "--sysfs", filepath.Join(dir, "gone")}},
		{"unknown command", []string{"more"}},
	} {
		out, bad, err := vfsOf(c.args...)
		if err == nil || !strings.Contains(bad, c.want) || out != "" {
			t.Errorf("%v: %q, %q", c.args, out, bad)
		}
	}
}
