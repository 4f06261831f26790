package sriov

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// functions reads a tree, by PCI address.
func functions(t *testing.T, tree *cards.Tree) map[string]Function {
	t.Helper()
	all, err := Sysfs(tree.Dir()).Functions()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Function{}
	for _, f := range all {
		found[f.PCI] = f
	}
	return found
}

func want(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each card as the selectors see it.
func TestFunctionsOfCards(t *testing.T) {
	tree := cards.Temp(t)
	type card struct {
		cards.Card
		pf, vf Function // vf: the second one
	}
	function := func(pci string, index int, driver, netdev, vendor, product, link, group, root string, rdma ...string) Function {
		return Function{Device: Device{PCI: pci, Index: index, Driver: driver, NUMA: 1, Netdev: netdev},
			Vendor: vendor, Product: product, LinkType: link, IOMMUGroup: group, Root: root, RDMA: rdma}
	}
	for _, c := range []card{
		{cards.Card{Model: cards.XXV710, PCI: "0000:17:00.0", Name: "ens1f0", ACPIIndex: "3"},
			function("0000:17:00.0", -1, "i40e", "ens1f0", "8086", "158b", "ether", "1", "pci0000:16"),
			function("0000:17:02.1", 1, "iavf", "ens1f0v1", "8086", "154c", "ether", "3", "pci0000:16")},
		{cards.Card{Model: cards.X710, PCI: "0000:18:00.1", Name: "ens2f1np1"},
			function("0000:18:00.1", -1, "i40e", "ens2f1np1", "8086", "1572", "ether", "4", "pci0000:17"),
			function("0000:18:0a.1", 1, "iavf", "ens2f1v1", "8086", "154c", "ether", "6", "pci0000:17")},
		{cards.Card{Model: cards.E810C, PCI: "0000:31:00.1", Name: "ens3f1np1", Root: "pci0000:30"},
			function("0000:31:00.1", -1, "ice", "ens3f1np1", "8086", "1592", "ether", "7", "pci0000:30"),
			function("0000:31:11.1", 1, "iavf", "ens3f1v1", "8086", "1889", "ether", "9", "pci0000:30")},
		{cards.Card{Model: cards.ConnectX5, PCI: "0000:3b:00.1", Name: "ens4f1np1"},
			function("0000:3b:00.1", -1, "mlx5_core", "ens4f1np1", "15b3", "1017", "ether", "10", "pci0000:3a", "mlx5_0"),
			function("0000:3b:01.3", 1, "mlx5_core", "ens4f1v1", "15b3", "1018", "ether", "12", "pci0000:3a", "mlx5_2")},
		{cards.Card{Model: cards.ConnectX6Dx, PCI: "10000:e1:00.0", Name: "ens5f0np0", Switchdev: true},
			function("10000:e1:00.0", -1, "mlx5_core", "ens5f0np0", "15b3", "101d", "ether", "13", "pci10000:e0", "mlx5_3"),
			function("10000:e1:00.3", 1, "mlx5_core", "ens5f0v1", "15b3", "101e", "ether", "15", "pci10000:e0", "mlx5_5")},
		{cards.Card{Model: cards.ConnectX6IB, PCI: "0000:5e:00.0", Name: "ibs6"},
			function("0000:5e:00.0", -1, "mlx5_core", "ibs6", "15b3", "101b", "infiniband", "16", "pci0000:5d", "mlx5_6"),
			function("0000:5e:00.3", 1, "mlx5_core", "ibs6v1", "15b3", "101c", "infiniband", "18", "pci0000:5d", "mlx5_8")},
		{cards.Card{Model: cards.I82576, PCI: "0000:01:00.1", Name: "ens7f1"},
			function("0000:01:00.1", -1, "igb", "ens7f1", "8086", "10c9", "ether", "19", "pci0000:00"),
			function("0000:01:10.3", 1, "igbvf", "ens7f1v1", "8086", "10ca", "ether", "21", "pci0000:00")},
	} {
		t.Run(string(c.Model), func(t *testing.T) {
			c.VFs, c.NUMA = 2, 1
			pci := tree.Add(c.Card)
			vfs := tree.VFs(pci)
			pf := PF{PCI: pci, Name: c.Name, Driver: c.pf.Driver, NUMA: 1, Total: functions(t, tree)[pci].PF.Total, VFs: vfs}
			if pf.Total < 7 {
				t.Errorf("%d VFs possible", pf.Total)
			}
			c.pf.PF, c.vf.PF, c.pf.ACPIIndex = pf, pf, c.ACPIIndex
			found := functions(t, tree)
			want(t, found[pci], c.pf)
			want(t, found[vfs[1]], c.vf)
			for _, f := range []Function{c.pf, c.vf} {
				one, err := Sysfs(tree.Dir()).Function(strings.ToUpper(f.PCI))
				if err != nil {
					t.Fatal(err)
				}
				want(t, *one, f)
			}
			// The plugin's own reader says the same of it.
			d, err := Sysfs(tree.Dir()).VF(vfs[1])
			if err != nil {
				t.Fatal(err)
			}
			want(t, *d, c.vf.Device)
		})
	}
	// By PCI address, and nothing but network controllers: 7 cards with 2 VFs.
	all, err := Sysfs(tree.Dir()).Functions()
	if err != nil || len(all) != 7*3 {
		t.Errorf("%d functions, %v", len(all), err)
	}
	if all[0].PCI != "0000:01:00.1" || all[len(all)-1].PCI != "10000:e1:00.3" {
		t.Errorf("from %s to %s", all[0].PCI, all[len(all)-1].PCI)
	}
}

// What has no SR-IOV is its own PF; what is no network controller is left out.
func TestFunctionsWithoutVFs(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	tree.Add(cards.Card{Model: cards.I82574, PCI: "0000:00:19.0", Name: "eno1", NUMA: -1, ACPIIndex: "1"})
	tree.Add(cards.Card{Model: cards.Virtio, PCI: "0000:00:03.0", Name: "eth0", NUMA: -1})
	disk := tree.Add(cards.Card{Model: cards.NVMe, PCI: "0000:04:00.0", VFs: 2})
	all, err := sys.Functions()
	if err != nil {
		t.Fatal(err)
	}
	want(t, all, []Function{
		{Device: Device{PCI: "0000:00:03.0", PF: PF{PCI: "0000:00:03.0", Name: "eth0", Driver: "virtio-pci", NUMA: -1}, Index: -1, Driver: "virtio-pci", NUMA: -1, Netdev: "eth0"},
			Vendor: "1af4", Product: "1041", LinkType: "ether", IOMMUGroup: "2", Root: "pci0000:00"},
		{Device: Device{PCI: "0000:00:19.0", PF: PF{PCI: "0000:00:19.0", Name: "eno1", Driver: "e1000e", NUMA: -1}, Index: -1, Driver: "e1000e", NUMA: -1, Netdev: "eno1"},
			Vendor: "8086", Product: "10d3", ACPIIndex: "1", LinkType: "ether", IOMMUGroup: "1", Root: "pci0000:00"},
	})
	_, err = sys.Function(disk)
	refused(t, err, disk, "no network controller", "multiplexerd devices")
	_, err = sys.Function("0000:00:1f.0")
	refused(t, err, "0000:00:1f.0", "no such PCI device", "multiplexerd devices")
	_, err = sys.Function("../../x")
	refused(t, err, "../../x", "domain:bus:device.function")
}

func TestFunctionsWithoutBus(t *testing.T) {
	sys := Sysfs(filepath.Join(t.TempDir(), "nothing"))
	if all, err := sys.Functions(); err != nil || all != nil {
		t.Errorf("%v, %v", all, err)
	}
	_, err := sys.Function("0000:01:00.0")
	refused(t, err, "no such PCI device")
}

// The states of a VF: what a pod or a driver takes away is not the VF.
func TestFunctionsOfStates(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	pf := tree.Add(cards.Card{Model: cards.ConnectX6IB, PCI: "0000:5e:00.0", Name: "ibs6", VFs: 6})
	vfs := tree.VFs(pf)
	before := functions(t, tree)
	tree.Hide(vfs[1])
	tree.Bind(vfs[2], "vfio-pci")
	tree.Bind(vfs[3], "")
	tree.Hide(vfs[4])
	tree.HideRDMA(vfs[4])
	check := func(pci string, change func(*Function)) {
		t.Helper()
		f := before[pci]
		change(&f)
		one, err := sys.Function(pci)
		if err != nil {
			t.Fatal(err)
		}
		want(t, *one, f)
		want(t, functions(t, tree)[pci], f)
	}
	check(pf, func(*Function) {})
	check(vfs[0], func(*Function) {})
	check(vfs[1], func(f *Function) { f.Netdev = "" }) // InfiniBand still, by its PF
	check(vfs[2], func(f *Function) { f.Netdev, f.RDMA, f.Driver = "", nil, "vfio-pci" })
	check(vfs[3], func(f *Function) { f.Netdev, f.RDMA, f.Driver = "", nil, "" })
	check(vfs[4], func(f *Function) { f.Netdev, f.RDMA = "", nil })
	tree.Bind(vfs[2], "mlx5_core")
	tree.Show(vfs[1])
	check(vfs[1], func(*Function) {})
	check(vfs[2], func(f *Function) { f.RDMA = []string{"mlx5_7"} }) // a new RDMA device
	// The PF without its own device: nobody knows the link's type.
	tree.Hide(pf)
	check(vfs[1], func(f *Function) { f.PF.Name = "" })
	check(vfs[3], func(f *Function) { f.PF.Name, f.Netdev, f.RDMA, f.Driver, f.LinkType = "", "", nil, "", "" })
}

func TestFunctionsNoIOMMU(t *testing.T) {
	tree := cards.Temp(t)
	tree.SetIOMMU(cards.NoIOMMU)
	pf := tree.Add(cards.Card{Model: cards.E810XXV, PCI: "0000:17:00.0", Name: "ens1f0np0", VFs: 2})
	vfs := tree.VFs(pf)
	tree.Bind(vfs[1], "vfio-pci")
	found := functions(t, tree)
	if f := found[vfs[0]]; f.IOMMUGroup != "" || f.NoIOMMU {
		t.Errorf("%+v", f)
	}
	if f := found[vfs[1]]; f.IOMMUGroup != "1" || !f.NoIOMMU {
		t.Errorf("%+v", f)
	}
}

// A VF without its links is coming or going, and is never taken for a NIC of
// its own.
func TestFunctionsHalfThere(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	pf := tree.Add(cards.Card{Model: cards.XL710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 3})
	vfs := tree.VFs(pf)
	dir := func(pci string) string { return filepath.Join(tree.Dir(), "bus/pci/devices", pci) }
	for name, half := range map[string]struct{ pci, path string }{
		"no virtfn":    {vfs[2], filepath.Join(dir(pf), "virtfn2")},
		"no physfn":    {vfs[1], filepath.Join(dir(vfs[1]), "physfn")},
		"no vendor":    {vfs[1], filepath.Join(dir(vfs[1]), "vendor")},
		"no class":     {vfs[1], filepath.Join(dir(vfs[1]), "class")},
		"no directory": {vfs[1], dir(vfs[1])},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := sys.Function(half.pci); err != nil {
				t.Fatal(err)
			}
			aside := filepath.Join(tree.Dir(), "aside")
			if err := os.Rename(half.path, aside); err != nil {
				t.Fatal(err)
			}
			found := functions(t, tree)
			if _, ok := found[half.pci]; ok || len(found) != 3 {
				t.Errorf("%d functions: %+v", len(found), found[half.pci])
			}
			_, err := sys.Function(half.pci)
			refused(t, err, half.pci, "multiplexerd devices")
			if err = os.Rename(aside, half.path); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("no PF", func(t *testing.T) {
		if err := os.Remove(dir(pf)); err != nil {
			t.Fatal(err)
		}
		want(t, functions(t, tree), map[string]Function{})
	})
}

// What is not there is left out; what cannot be read is an error, or its VFs
// would seem to be gone.
func TestFunctionsUnreadable(t *testing.T) {
	tree := cards.Temp(t)
	pf := tree.Add(cards.Card{Model: cards.XL710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 1})
	for _, name := range []string{"vendor", "numa_node", "class"} {
		path := filepath.Join(tree.Dir(), "bus/pci/devices", tree.VFs(pf)[0], name)
		aside := filepath.Join(tree.Dir(), "aside")
		// A link that leads to itself cannot be opened, whoever asks.
		if err := errors.Join(os.Rename(path, aside), os.Symlink(name, path)); err != nil {
			t.Fatal(err)
		}
		all, err := Sysfs(tree.Dir()).Functions()
		if !errors.Is(err, network.IO) || !strings.Contains(err.Error(), name) || all != nil {
			t.Errorf("%s: %v, %d functions", name, err, len(all))
		}
		if err = os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
	}
}

// VFs come and go while they are read: those that stay are read right each
// time, and those that do not are read right or not at all.
func TestFunctionsRaced(t *testing.T) {
	tree := cards.Temp(t)
	sys := Sysfs(tree.Dir())
	still := tree.Add(cards.Card{Model: cards.E810C, PCI: "0000:17:00.0", Name: "ens1f0np0", VFs: 16})
	busy := tree.Add(cards.Card{Model: cards.ConnectX5, PCI: "0000:3b:00.0", Name: "ens2f0np0", VFs: 8})
	before := functions(t, tree)
	again := functions(t, tree)
	want(t, again, before)
	done := make(chan struct{})
	var changes sync.WaitGroup
	changes.Go(func() {
		defer close(done)
		for range 30 {
			if err := errors.Join(tree.SetVFs(busy, 0), tree.SetVFs(busy, 8)); err != nil {
				t.Error(err)
			}
		}
	})
	reads := 0
	for running := true; running; reads++ {
		select {
		case <-done:
			running = false
		default:
		}
		all, err := sys.Functions()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, f := range all {
			found[f.PCI] = true
			old := before[f.PCI]
			if f.PF.PCI == still && !cmp.Equal(f, old) {
				t.Fatalf("one that stayed: %s", cmp.Diff(old, f))
			}
			if f.PF.PCI != still && (f.PF.PCI != busy || f.Index != old.Index || f.Vendor != old.Vendor || f.Product != old.Product || f.NUMA != old.NUMA || f.Root != old.Root) {
				t.Fatalf("one that came or went: %+v", f)
			}
		}
		for pci, f := range before {
			if f.PF.PCI == still && !found[pci] {
				t.Fatalf("%s is missing", pci)
			}
		}
	}
	changes.Wait()
	if reads < 2 {
		t.Errorf("%d reads", reads)
	}
	after := functions(t, tree)
	for pci, f := range after {
		if f.PF.PCI == busy { // the VFs are new ones, but for their places
			f.IOMMUGroup, f.RDMA = before[pci].IOMMUGroup, before[pci].RDMA
			after[pci] = f
		}
	}
	want(t, after, before)
}

func TestRoot(t *testing.T) {
	for device, bridge := range map[string]string{
		"../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0":                        "pci0000:00",
		"../../../devices/pci0000:ae/0000:ae:00.0/0000:af:00.0":                        "pci0000:ae",
		"../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0":           "pci0000:00",
		"../../../devices/platform/soc/40000000.pcie/pci0002:00/0002:00:00.0":          "pci0002:00",
		"../../../devices/platform/pcie/pcie:x/pci/pci0:zz/pci0001:80/0001:80:00.0":    "pci0001:80",
		"../../../devices/LNXSYSTM:00/ACPI0004:00/VMBUS:00/47505500-0001/0000:01:00.0": "",
		"../../../devices/vmbus/pciab12:00/ab12:00:02.0":                               "pciab12:00",
		"": "",
	} {
		if got := root(device); got != bridge {
			t.Errorf("%s: %q, want %q", device, got, bridge)
		}
	}
}

// All of 512 VFs, and the same a second time.
func TestFunctions512(t *testing.T) {
	tree := cards.Temp(t)
	pfs := tree.Add512VFs()
	all, err := Sysfs(tree.Dir()).Functions()
	if err != nil {
		t.Fatal(err)
	}
	per := map[string]int{}
	for _, f := range all {
		if f.Index >= 0 {
			per[fmt.Sprint(f.PF.PCI, " node ", f.NUMA, " ", f.LinkType)]++
		}
	}
	want(t, per, map[string]int{
		pfs[0] + " node 0 ether": 128, pfs[1] + " node 0 ether": 128, pfs[2] + " node 1 ether": 128, pfs[3] + " node 1 ether": 128,
	})
	if !slices.IsSortedFunc(all, func(a, b Function) int { return strings.Compare(a.PCI, b.PCI) }) {
		t.Error("not by PCI address")
	}
	again, err := Sysfs(tree.Dir()).Functions()
	if err != nil {
		t.Fatal(err)
	}
	want(t, again, all)
}

func BenchmarkFunctions512(b *testing.B) {
	tree := cards.Temp(b)
	tree.Add512VFs()
	sys := Sysfs(tree.Dir())
	b.ReportAllocs()
	for b.Loop() {
		if all, err := sys.Functions(); err != nil || len(all) != 512+4 {
			b.Fatal(len(all), err)
		}
	}
}
