package resource

import (
	"slices"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// rack is a sysfs with one card of each maker, as real ones lay theirs out.
type rack struct {
	*cards.Tree
	x710, e810, igb, cx5, cx6dx, ib string // PFs
	onboard, idle                   string
}

func newRack(t *testing.T) *rack {
	t.Helper()
	tree := cards.New(t.TempDir())
	return &rack{
		Tree:    tree,
		igb:     tree.Add(cards.Card{Model: cards.I82576, PCI: "0000:05:00.0", Name: "ens5f0", VFs: 2, NUMA: -1}),
		onboard: tree.Add(cards.Card{Model: cards.I82574, PCI: "0000:06:00.0", Name: "eno1", NUMA: -1, ACPIIndex: "101"}),
		x710:    tree.Add(cards.Card{Model: cards.X710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 4}),
		idle:    tree.Add(cards.Card{Model: cards.X710, PCI: "0000:17:00.1", Name: "ens1f1"}),
		e810:    tree.Add(cards.Card{Model: cards.E810C, PCI: "0000:3b:00.0", Name: "ens2f0np0", VFs: 3, NUMA: 1}),
		cx5:     tree.Add(cards.Card{Model: cards.ConnectX5, PCI: "0000:5e:00.0", Name: "ens3np0", VFs: 2}),
		cx6dx:   tree.Add(cards.Card{Model: cards.ConnectX6Dx, PCI: "0000:af:00.0", Name: "ens4np0", VFs: 2, Switchdev: true}),
		ib:      tree.Add(cards.Card{Model: cards.ConnectX6IB, PCI: "0000:d8:00.0", Name: "ibs6", VFs: 2}),
	}
}

// take returns what one selector takes of the rack.
func (r *rack) take(t *testing.T, selector string) []string {
	t.Helper()
	functions, err := sriov.Sysfs(r.Dir()).Functions()
	if err != nil {
		t.Fatal(err)
	}
	c, problems := read(t, one(selector))
	same(t, "problems of "+selector, problems, []string(nil))
	got := []string{}
	for _, choice := range c.Select(functions).Choices {
		got = append(got, choice.PCI)
	}
	return got
}

func TestRealCards(t *testing.T) {
	r := newRack(t)
	vfs := func(pfs ...string) []string {
		all := []string{}
		for _, pf := range pfs {
			all = append(all, r.VFs(pf)...)
		}
		return all
	}
	r.Add(cards.Card{Model: cards.NVMe, PCI: "0000:e0:00.0", VFs: 1}) // a VF, and no NIC
	for _, tc := range []struct {
		selector string
		want     []string
	}{
		{`{"vendors": ["8086"], "devices": ["154c", "1889"], "drivers": ["iavf"]}`, vfs(r.x710, r.e810)},
		{`{"drivers": ["igbvf"]}`, vfs(r.igb)},
		{`{"vendors": ["8086"], "drivers": ["i40e"]}`, []string{r.idle}},
		{`{"vendors": ["15b3"]}`, vfs(r.cx5, r.cx6dx, r.ib)},
		{`{"vendors": ["15b3"], "devices": ["1018"], "drivers": ["mlx5_core"], "isRdma": true}`, vfs(r.cx5)},
		{`{"isRdma": true, "linkTypes": ["ether"]}`, vfs(r.cx5, r.cx6dx)},
		{`{"linkTypes": ["infiniband"]}`, vfs(r.ib)},
		{`{"pfNames": ["ens1f0#1-2", "ens1f0#0"]}`, vfs(r.x710)[:3]},
		{`{"pfNames": ["ens4np0"]}`, vfs(r.cx6dx)}, // the uplink, beside its representors
		{`{"pfNames": ["ens1f1", "eno1"]}`, []string{}},
		{`{"rootDevices": ["0000:3b:00.0#2", "0000:05:00.0#1"]}`, []string{vfs(r.igb)[1], vfs(r.e810)[2]}},
		{`{"acpiIndexes": ["101"]}`, []string{r.onboard}},
		{`{"pciAddresses": ["` + r.x710 + `", "` + vfs(r.x710)[0] + `"]}`, vfs(r.x710)[:1]},
		{`{"vendors": ["144d"]}`, []string{}},
	} {
		same(t, tc.selector, r.take(t, tc.selector), tc.want)
	}
}

// The same file says something else when the node has changed.
func TestRealCardsChange(t *testing.T) {
	r := newRack(t)
	x710 := r.VFs(r.x710)
	const iavf, vfio, ether = `{"pfNames": ["ens1f0"], "drivers": ["iavf"]}`, `{"pfNames": ["ens1f0"], "drivers": ["vfio-pci"]}`, `{"linkTypes": ["ether"], "rootDevices": ["0000:17:00.0"]}`
	r.Bind(x710[1], cards.VFIO)
	same(t, "bound to iavf", r.take(t, iavf), []string{x710[0], x710[2], x710[3]})
	same(t, "bound to vfio-pci", r.take(t, vfio), x710[1:2])
	same(t, "the PF's link type counts for a VF without a network device", r.take(t, ether), x710)
	r.Bind(x710[1], "iavf")
	same(t, "bound back", r.take(t, iavf), x710)

	r.Hide(x710[0]) // its network device is in a pod
	same(t, "in a pod", r.take(t, ether), x710)
	r.Remove(x710[3])
	same(t, "removed", r.take(t, iavf), x710[:3])

	if err := r.SetVFs(r.idle, 2); err != nil {
		t.Fatal(err)
	}
	same(t, "a PF that has VFs now", r.take(t, `{"drivers": ["i40e"]}`), []string{})
	if err := r.SetVFs(r.x710, 0); err != nil {
		t.Fatal(err)
	}
	same(t, "a PF that has none any more", r.take(t, `{"drivers": ["i40e"]}`), []string{r.x710})
}

// Why a real card's function is not offered, with a PF that is to get VFs.
func TestRealCardsExplained(t *testing.T) {
	r := newRack(t)
	functions, err := sriov.Sysfs(r.Dir()).Functions()
	if err != nil {
		t.Fatal(err)
	}
	c, problems := read(t, `{"resourceList": [{"resourceName": "dpdk", "selectors": [{"vendors": ["8086"], "drivers": ["vfio-pci"]}, {"drivers": ["igbvf"], "pfNames": ["ens5f0#1"]}]}],
		"pfs": [{"name": "ens1f1", "numVfs": 4}]}`)
	same(t, "problems", problems, []string(nil))
	reasons := map[string][]string{}
	for _, refusal := range c.Explain(functions) {
		reasons[refusal.Function.PCI] = refusal.Why
	}
	igb := r.VFs(r.igb)
	for pci, want := range map[string][]string{
		r.igb:  {"it is a PF with 2 VFs, which are offered in its place"},
		r.idle: {"it is a PF that gets VFs by `pfs`, which are offered in its place"},
		igb[0]: {"selectors[0].drivers: igbvf is not in [vfio-pci]", "selectors[1].pfNames: VF 0 of ens5f0 is not in [ens5f0#1]"},
		igb[1]: nil,
		r.onboard: {
			"selectors[0].drivers: e1000e is not in [vfio-pci]",
			"selectors[1].drivers: e1000e is not in [igbvf]",
		},
		r.VFs(r.cx5)[0]: {"selectors[0].vendors: 15b3 is not in [8086]", "selectors[1].drivers: mlx5_core is not in [igbvf]"},
	} {
		same(t, pci, reasons[pci], want)
	}
	if slices.Contains(r.take(t, `{"vendors": ["8086"]}`), r.igb) {
		t.Error("a PF with VFs is offered")
	}
}
