package cards

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// look returns what links lead to, files say and directories hold; "-" = there
// is none.
func look(t *testing.T, tree *Tree, path string) string {
	t.Helper()
	full := filepath.Join(tree.Dir(), path)
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, readErr := os.Readlink(full)
		if readErr != nil {
			t.Fatal(readErr)
		}
		return target
	case info.IsDir():
		entries, readErr := os.ReadDir(full)
		if readErr != nil {
			t.Fatal(readErr)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return "[" + strings.Join(names, " ") + "]"
	}
	text, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func expect(t *testing.T, tree *Tree, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for path := range want {
		got[path] = look(t, tree, path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The links are written as the kernel writes them.
func TestLayout(t *testing.T) {
	tree := New(filepath.Join(t.TempDir(), "sys"))
	pf := tree.Add(Card{Model: ConnectX5, PCI: "0000:3b:00.1", Name: "ens1f1np1", VFs: 2, NUMA: 1})
	const bridge = "devices/pci0000:3a/0000:3a:1b.0/"
	expect(t, tree, map[string]string{
		"bus/pci/devices/" + pf:                       "../../../" + bridge + "0000:3b:00.1",
		"bus/pci/devices/0000:3b:01.3":                "../../../" + bridge + "0000:3b:01.3",
		"bus/pci/drivers/mlx5_core/0000:3b:01.3":      "../../../../" + bridge + "0000:3b:01.3",
		bridge + "0000:3b:01.3/physfn":                "../0000:3b:00.1",
		bridge + "0000:3b:00.1/virtfn1":               "../0000:3b:01.3",
		bridge + "0000:3b:01.3/driver":                "../../../../bus/pci/drivers/mlx5_core",
		bridge + "0000:3b:01.3/subsystem":             "../../../../bus/pci",
		bridge + "0000:3b:01.3/iommu_group":           "../../../../kernel/iommu_groups/3",
		bridge + "0000:3b:01.3/net":                   "[ens1f1v1]",
		bridge + "0000:3b:01.3/net/ens1f1v1/device":   "../../../0000:3b:01.3",
		bridge + "0000:3b:01.3/net/ens1f1v1/type":     "1",
		bridge + "0000:3b:01.3/infiniband":            "[mlx5_2]",
		bridge + "0000:3b:01.3/infiniband_verbs":      "[uverbs2]",
		bridge + "0000:3b:01.3/infiniband_mad":        "[issm2 umad2]",
		"class/net/ens1f1v1":                          "../../" + bridge + "0000:3b:01.3/net/ens1f1v1",
		"class/infiniband/mlx5_2":                     "../../" + bridge + "0000:3b:01.3/infiniband/mlx5_2",
		"class/misc/rdma_cm":                          "../../devices/virtual/misc/rdma_cm",
		bridge + pf + "/net/ens1f1np1/phys_port_name": "p1",
		bridge + pf + "/sriov_totalvfs":               "8",
		bridge + pf + "/sriov_numvfs":                 "2",
		bridge + pf + "/numa_node":                    "1",
		bridge + pf + "/uevent":                       "DRIVER=mlx5_core\nPCI_CLASS=20000\nPCI_ID=15B3:1017\nPCI_SLOT_NAME=0000:3b:00.1",
	})
	// No link leads out of the tree, and none leads nowhere.
	err := filepath.WalkDir(tree.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := os.Readlink(path)
		if filepath.IsAbs(target) {
			t.Errorf("%s is absolute: %s", path, target)
		}
		if _, statErr := os.Stat(path); statErr != nil {
			t.Error(statErr)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBind(t *testing.T) {
	tree := Temp(t)
	pf := tree.Add(Card{Model: ConnectX6Dx, PCI: "0000:3b:00.0", Name: "ens1f0np0", VFs: 1})
	vf := tree.VFs(pf)[0]
	dir := "bus/pci/devices/" + vf + "/"
	address := look(t, tree, dir+"net/ens1f0v0/address")
	driver := "../../../../bus/pci/drivers/"
	gone := map[string]string{
		dir + "net": "-", dir + "infiniband": "-", dir + "infiniband_verbs": "-", dir + "infiniband_mad": "-", dir + "uio": "-",
		"class/net/ens1f0v0": "-", "class/infiniband/mlx5_1": "-", "class/infiniband_verbs/uverbs1": "-", "class/infiniband_mad/umad1": "-",
		"bus/pci/drivers/mlx5_core/" + vf: "-", "class/uio": "-",
	}
	tree.Bind(vf, VFIO)
	gone[dir+"driver"] = driver + VFIO
	expect(t, tree, gone)
	tree.Bind(vf, "")
	gone[dir+"driver"], gone["bus/pci/drivers/vfio-pci/"+vf] = "-", "-"
	expect(t, tree, gone)
	tree.Bind(vf, IGBUIO)
	gone[dir+"driver"], gone[dir+"uio"], gone["class/uio"] = driver+IGBUIO, "[uio0]", "[uio0]"
	expect(t, tree, gone)
	tree.Bind(vf, "mlx5_core")
	expect(t, tree, map[string]string{
		dir + "driver": driver + "mlx5_core", dir + "net": "[ens1f0v0]", dir + "net/ens1f0v0/address": address,
		dir + "infiniband": "[mlx5_2]", dir + "uio": "-", "class/uio": "[]", "class/infiniband": "[mlx5_0 mlx5_2]", "class/net": "[ens1f0np0 ens1f0v0]",
	})
	// A pod's device comes back to the node with its driver.
	tree.Hide(vf)
	expect(t, tree, map[string]string{dir + "net": "[]", "class/net": "[ens1f0np0]", dir + "infiniband": "[mlx5_2]"})
	tree.HideRDMA(vf)
	expect(t, tree, map[string]string{dir + "infiniband": "[]", dir + "infiniband_verbs": "[]", "class/infiniband": "[mlx5_0]"})
	tree.Show(vf)
	expect(t, tree, map[string]string{dir + "net/ens1f0v0/address": address, "class/net": "[ens1f0np0 ens1f0v0]", dir + "infiniband": "[mlx5_3]"})
	tree.Rename(vf, "vf0")
	expect(t, tree, map[string]string{dir + "net": "[vf0]", dir + "net/vf0/address": address, "class/net": "[ens1f0np0 vf0]"})
	if name := tree.Netdev(vf); name != "vf0" {
		t.Errorf("named %q", name)
	}
}

func TestSetVFs(t *testing.T) {
	tree := Temp(t)
	pf := tree.Add(Card{Model: ConnectX6Dx, PCI: "0000:3b:00.0", Name: "ens1f0np0", VFs: 2, Switchdev: true})
	dir := "bus/pci/devices/" + pf + "/"
	for number, kind := range map[int]error{9: unix.ERANGE, -1: unix.ERANGE, 3: unix.EBUSY, 2: nil} {
		if err := tree.SetVFs(pf, number); !errors.Is(err, kind) {
			t.Errorf("%d: %v, want %v", number, err, kind)
		}
	}
	if err := tree.SetVFs(tree.VFs(pf)[0], 1); !errors.Is(err, unix.ERANGE) {
		t.Errorf("VFs of a VF: %v", err)
	}
	expect(t, tree, map[string]string{
		dir + "sriov_numvfs": "2", dir + "net": "[ens1f0np0 ens1f0npf0vf0 ens1f0npf0vf1]", dir + "net/ens1f0npf0vf1/phys_port_name": "pf0vf1",
		"class/net": "[ens1f0np0 ens1f0npf0vf0 ens1f0npf0vf1 ens1f0v0 ens1f0v1]", "kernel/iommu_groups": "[1 2 3]",
	})
	if err := tree.SetVFs(pf, 0); err != nil {
		t.Fatal(err)
	}
	expect(t, tree, map[string]string{
		dir + "sriov_numvfs": "0", dir + "net": "[ens1f0np0]", dir + "virtfn0": "-", "class/net": "[ens1f0np0]", "class/infiniband": "[mlx5_0]",
		"bus/pci/devices": "[0000:3a:1b.0 0000:3b:00.0]", "kernel/iommu_groups": "[1]", "bus/pci/drivers/mlx5_core": "[0000:3b:00.0 bind new_id unbind]",
	})
	// Without autoprobe the VFs get no driver.
	if err := os.WriteFile(filepath.Join(tree.Dir(), dir, "sriov_drivers_autoprobe"), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tree.SetVFs(pf, 1); err != nil {
		t.Fatal(err)
	}
	expect(t, tree, map[string]string{dir + "virtfn0/driver": "-", dir + "virtfn0/net": "-", dir + "net": "[ens1f0np0 ens1f0npf0vf0]"})
}

func TestRemoveAndReplug(t *testing.T) {
	tree := Temp(t)
	tree.SetIOMMU(NoIOMMU)
	pf := tree.Add(Card{Model: I82576, PCI: "0000:01:00.0", Name: "ens1f0", VFs: 3})
	vfs := tree.VFs(pf)
	if diff := cmp.Diff([]string{"0000:01:10.0", "0000:01:10.2", "0000:01:10.4"}, vfs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	dir := "bus/pci/devices/" + pf + "/"
	tree.Bind(vfs[1], VFIO)
	expect(t, tree, map[string]string{"kernel/iommu_groups": "[1]", "kernel/iommu_groups/1/name": "vfio-noiommu"})
	tree.Remove(vfs[1])
	expect(t, tree, map[string]string{
		dir + "virtfn1": "../0000:01:10.2", "bus/pci/devices": "[0000:00:01.0 0000:01:00.0 0000:01:10.0 0000:01:10.4]",
		"kernel/iommu_groups": "[]", "bus/pci/drivers/vfio-pci": "[bind new_id unbind]",
	})
	tree.Replug(vfs[1])
	expect(t, tree, map[string]string{dir + "virtfn1/net": "[ens1f0v1]", dir + "virtfn1/physfn": "../0000:01:00.0"})
	tree.Remove(pf)
	expect(t, tree, map[string]string{"bus/pci/devices": "[0000:00:01.0]", "class/net": "[]", "bus/pci/drivers/igbvf": "[bind new_id unbind]"})
	tree.Replug(pf)
	expect(t, tree, map[string]string{dir + "sriov_numvfs": "0", "class/net": "[ens1f0]"})
	if err := tree.SetVFs(pf, 3); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0000:00:01.0", pf, vfs[0], vfs[1], vfs[2]}, tree.Functions()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// VFs go on to the next bus, and those of two ports do not meet.
func TestAdd512VFs(t *testing.T) {
	tree := Temp(t)
	seen := map[string]bool{}
	for _, pf := range tree.Add512VFs() {
		for _, vf := range tree.VFs(pf) {
			seen[vf] = true
		}
	}
	if len(seen) != 512 {
		t.Errorf("%d VFs", len(seen))
	}
	for _, vf := range []string{"0000:17:01.0", "0000:17:10.7", "0000:17:11.0", "0000:18:00.7", "0000:b1:01.0"} {
		if !seen[vf] {
			t.Errorf("none at %s", vf)
		}
	}
}

// What a test asks wrongly must not pass unseen.
func TestWrong(t *testing.T) {
	for name, wrong := range map[string]struct {
		says string
		do   func(*Tree)
	}{
		"model":    {`no model "x"`, func(tree *Tree) { tree.Add(Card{Model: "x", PCI: "0000:02:00.0"}) }},
		"address":  {"want an address", func(tree *Tree) { tree.Add(Card{Model: X710, PCI: "02:00.0"}) }},
		"root":     {"host bridge", func(tree *Tree) { tree.Add(Card{Model: X710, PCI: "0000:02:00.0", Root: "0000:00"}) }},
		"twice":    {"in the tree already", func(tree *Tree) { tree.Add(Card{Model: X710, PCI: "0000:01:00.0"}) }},
		"taken":    {"which another function has", func(tree *Tree) { tree.Add(Card{Model: X710, PCI: "0000:01:00.1", Total: 4, VFs: 1}) }},
		"unknown":  {"no PCI function", func(tree *Tree) { tree.Bind("0000:09:00.0", VFIO) }},
		"replug":   {"was not removed", func(tree *Tree) { tree.Replug("0000:01:00.0") }},
		"too many": {"numerical result out of range", func(tree *Tree) { tree.Add(Card{Model: I82574, PCI: "0000:02:00.0", VFs: 1}) }},
	} {
		t.Run(name, func(t *testing.T) {
			tree := Temp(t)
			tree.Add(Card{Model: X710, PCI: "0000:01:00.0", Name: "ens1", Total: 8, VFs: 8})
			defer func() {
				if said, _ := recover().(string); !strings.Contains(said, wrong.says) {
					t.Errorf("said %q, want %q in it", said, wrong.says)
				}
			}()
			wrong.do(tree)
		})
	}
}
