package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
)

// devices runs `multiplexerd devices` on a tree of cards.
func devices(t *testing.T, tree *cards.Tree, config string, more ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if config != "" {
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	args := []string{"devices", "--sysfs", tree.Dir(), "--device-config", file, "--state-dir", t.TempDir(), "--pod-resources-socket", filepath.Join(t.TempDir(), "none")}
	cmd.SetArgs(append(args, more...))
	err := cmd.Execute()
	return strings.ReplaceAll(out.String(), file, "FILE"), err
}

const twoResources = `{"resourceList": [
 {"resourceName": "fast", "selectors": [{"drivers": ["iavf"], "pfNames": ["ens1f0#0"]}]},
 {"resourceName": "dpdk", "selectors": [{"drivers": ["vfio-pci"]}, {"devices": ["1889"]}]},
 {"resourceName": "bad", "selectors": {"driver": ["iavf"]}}]}`

func TestDevices(t *testing.T) {
	tree := cards.Temp(t)
	pf := tree.Add(cards.Card{Model: cards.X710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 3})
	tree.Bind(tree.VFs(pf)[2], cards.VFIO)
	socket := filepath.Join(t.TempDir(), "k.sock")
	kubelet, err := kubelettest.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer kubelet.Stop() //nolint:errcheck // the test's own
	kubelet.SetPod("shop", "web", kubelettest.Container{Name: "app", Devices: []kubelettest.Device{{Resource: "intel.com/dpdk", ID: tree.VFs(pf)[2]}}})
	got, err := devices(t, tree, twoResources, "--pod-resources-socket", socket)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
RESOURCE        PCI           PF      VF  DRIVER    NUMA  HEALTH   POD       REASON
-               0000:17:00.0  ens1f0  -   i40e      0     -        -         it is a PF with 3 VFs, which are offered in its place
intel.com/fast  0000:17:02.0  ens1f0  0   iavf      0     Healthy  -         -
-               0000:17:02.1  ens1f0  1   iavf      0     -        -         intel.com/fast: selectors[0].pfNames: VF 1 of ens1f0 is not in [ens1f0#0]; intel.com/dpdk: selectors[0].drivers: iavf is not in [vfio-pci], selectors[1].devices: 154c is not in [1889]
intel.com/dpdk  0000:17:02.2  ens1f0  2   vfio-pci  0     Healthy  shop/web  -

FILE: intel.com/bad is left out: selectors.driver: is no key here: is "drivers" meant?
`, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = devices(t, tree, twoResources, "-o", "json")
	var report devicesReport
	if err == nil {
		err = json.Unmarshal([]byte(got), &report)
	}
	if n := len(report.Problems); n != 2 || !strings.HasPrefix(report.Problems[1], "kubelet did not answer at /") {
		t.Errorf("problems %q", report.Problems)
	}
	if err != nil || len(report.Devices) != 4 || report.Devices[1].Resource != "intel.com/fast" || len(report.Devices[2].Refused) != 2 {
		t.Errorf("%v: %s", err, got)
	}
}

// PFs that are to get VFs are listed, although no agent runs.
func TestDevicesPFsWithoutAgent(t *testing.T) {
	tree := cards.Temp(t)
	tree.Add(cards.Card{Model: cards.X710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 3})
	got, err := devices(t, tree, `{"resourceList": [], "pfs": [{"name": "ens1f0", "numVfs": 3}, {"pciAddress": "0000:99:00.0", "numVfs": 8, "driver": "vfio-pci"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ens1f0  -             3    -         -    waiting  no agent has begun with it",
		"-       0000:99:00.0  8    vfio-pci  -    waiting  no agent has begun with it",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}

func TestDevicesErrors(t *testing.T) {
	tree := cards.Temp(t)
	for config, want := range map[string]string{
		"":                     "no such file or directory: no devices are offered; write that file",
		"{":                    "FILE: is no JSON",
		`{"resourceList": {}}`: "resourceList: is an object, want an array",
	} {
		if got, err := devices(t, tree, config); err == nil || !strings.Contains(got, want) {
			t.Errorf("%q: %v, %q", config, err, got)
		}
	}
	if got, err := devices(t, tree, twoResources, "-o", "xml"); err == nil || !strings.Contains(got, `--output "xml"`) {
		t.Errorf("%v, %s", err, got)
	}
}

// Names may hold what a terminal obeys.
func TestTableShowsNoEscapes(t *testing.T) {
	var out strings.Builder
	if err := table(&out, [][]string{{"PF", "VF"}, {"a\x1b[2Jb\tc\nd", "\u202e0"}}); err != nil {
		t.Fatal(err)
	}
	if want := "PF          VF\na?[2Jb?c?d  ?0\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
