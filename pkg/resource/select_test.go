package resource

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// offers are the choices as "resource/selector: address address ...".
func offers(c *Config, s Selection) []string {
	var lines []string
	for i := range c.Resources {
		res := &c.Resources[i]
		for j := range res.Selectors {
			line := fmt.Sprintf("%s/%d:", res.Name, j)
			for _, choice := range s.Choices {
				if choice.Resource == res && choice.Selector == &res.Selectors[j] {
					line += " " + choice.PCI
				}
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// node has two ports of 8 and 4 Intel VFs, a ConnectX with 2, an InfiniBand
// port with 1, and an onboard NIC.
func node() []sriov.Function {
	onboard := sriov.Function{Vendor: "8086", Product: "10d3", LinkType: "ether", ACPIIndex: "101"}
	onboard.Driver = "e1000e"
	return slices.Concat(
		card(0x3b, "ens1f0", 8, intelVF("iavf")),
		card(0x3c, "ens1f1", 4, intelVF("vfio-pci")),
		card(0x5e, "ens2", 2, mellanoxVF("ether")),
		card(0x5f, "ib0", 1, mellanoxVF("infiniband")),
		[]sriov.Function{nic(2, "eno1", onboard)},
	)
}

// Each case is one selector on that node.
func TestSelectorTakes(t *testing.T) {
	for _, tc := range []struct{ selector, want string }{
		{`{"vendors": ["15b3"]}`, "5e:02.0 5e:02.1 5f:02.0"},
		{`{"vendors": ["15b3", "8086"], "devices": ["1018", "10d3"]}`, "02:00.0 5e:02.0 5e:02.1 5f:02.0"},
		{`{"drivers": ["vfio-pci"]}`, "3c:02.0 3c:02.1 3c:02.2 3c:02.3"},
		{`{"pciAddresses": ["0000:3B:02.7", "0000:02:00.0", "0000:99:00.0"]}`, "02:00.0 3b:02.7"},
		{`{"pciAddresses": ["0000:3b:00.0", "0000:3b:02.1"]}`, "3b:02.1"}, // a PF with VFs never is
		{`{"acpiIndexes": ["101"]}`, "02:00.0"},
		{`{"acpiIndexes": ["10"]}`, ""},
		{`{"pfNames": ["ENS1F0#0,2-3,7"]}`, "3b:02.0 3b:02.2 3b:02.3 3b:02.7"},
		{`{"pfNames": ["ens1f0#0-1", "ens1f0#4", "ens2"]}`, "3b:02.0 3b:02.1 3b:02.4 5e:02.0 5e:02.1"}, // every element counts
		{`{"pfNames": ["eno1"]}`, ""},                                                                  // no VF
		{`{"pfNames": ["ens1"]}`, ""},                                                                  // no part of a name
		{`{"pfNames": ["ens2#2"]}`, ""},                                                                // no such VF
		{`{"rootDevices": ["0000:3B:00.0#7", "0000:3b:00.0#1-2"]}`, "3b:02.1 3b:02.2 3b:02.7"},
		{`{"rootDevices": ["0000:5e:00.0"]}`, "5e:02.0 5e:02.1"},
		{`{"rootDevices": ["0000:02:00.0"]}`, ""},
		{`{"linkTypes": ["infiniband"]}`, "5f:02.0"},
		{`{"linkTypes": ["infiniband", "ether"], "acpiIndexes": ["101"]}`, "02:00.0"},
		{`{"isRdma": true}`, "5e:02.0 5e:02.1 5f:02.0"},
		{`{"isRdma": true, "linkTypes": ["ether"], "pfNames": ["ens2#1"], "needVhostNet": true}`, "5e:02.1"},
		{`{"vendors": ["8086"], "isRdma": true}`, ""},
	} {
		c, problems := read(t, one(tc.selector))
		same(t, "problems", problems, []string(nil))
		var got []string
		for _, choice := range c.Select(node()).Choices {
			got = append(got, strings.TrimPrefix(choice.PCI, "0000:"))
		}
		same(t, tc.selector, strings.Join(got, " "), tc.want)
	}
}

func TestFirstResourceFirstSelector(t *testing.T) {
	c, problems := read(t, `{"resourceList": [
		{"resourceName": "few", "selectors": [{"pfNames": ["ens2#1"]}, {"pfNames": ["ens2"], "needVhostNet": true}]},
		{"resourceName": "rdma", "isRdma": true, "selectors": {"vendors": ["15b3"]}},
		{"resourceName": "rest", "selectors": {"vendors": ["15b3"]}},
		{"resourceName": "none", "selectors": {"drivers": ["igbvf"]}}]}`)
	same(t, "problems", problems, []string(nil))
	functions := node()
	s := c.Select(functions)
	same(t, "choices", offers(c, s), []string{
		"intel.com/few/0: 0000:5e:02.1",
		"intel.com/few/1: 0000:5e:02.0",
		"intel.com/rdma/0: 0000:5f:02.0",
		"intel.com/rest/0:",
		"intel.com/none/0:",
	})
	same(t, "warnings", sayings(t, s.Warnings), []string{
		"intel.com/rdma: selectors: 2 devices that it selects too (first 0000:5e:02.0) go to intel.com/few, which stands before it in the file",
		"intel.com/rest: selectors: 2 devices that it selects too (first 0000:5e:02.0) go to intel.com/few, which stands before it in the file",
		"intel.com/rest: selectors: 1 device that it selects too (first 0000:5f:02.0) go to intel.com/rdma, which stands before it in the file",
		"intel.com/rest: selectors: selects nothing that could be offered: earlier resources have all that it selects",
		"intel.com/none: selectors: selects nothing that could be offered: 0000:3b:02.0 comes closest, but selectors[0].drivers: iavf is not in [igbvf]",
	})

	slices.Reverse(functions)
	again := c.Select(functions)
	same(t, "choices of another order", offers(c, again), offers(c, s))
	same(t, "warnings of another order", again.Warnings, s.Warnings)
}

// The article's file on a node of today: i40evf became iavf in Linux 4.20, and
// the driver on the PCI bus is mlx5_core. The operator is told.
func TestArticleOnANode(t *testing.T) {
	c, _ := read(t, string(fixture(t, "article.json")))
	s := c.Select(node())
	same(t, "choices", offers(c, s), []string{
		"intel.com/intel_sriov_netdevice/0:",
		"intel.com/intel_sriov_dpdk/0:",
		"intel.com/mlnx_sriov_rdma/0:",
		"intel.com/infiniband_rdma_netdevs/0: 0000:5f:02.0",
	})
	same(t, "warnings", sayings(t, s.Warnings), []string{
		"intel.com/intel_sriov_netdevice: selectors: selects nothing that could be offered: 0000:3b:02.0 comes closest, but selectors[0].drivers: iavf is not in [i40evf ixgbevf]",
		"intel.com/intel_sriov_dpdk: selectors: selects nothing that could be offered: 0000:3c:02.0 comes closest, but selectors[0].pfNames: VF 0 of ens1f1 is not in [enp0s0f0 enp2s2f1]",
		"intel.com/mlnx_sriov_rdma: selectors: selects nothing that could be offered: 0000:5e:02.0 comes closest, but selectors[0].drivers: mlx5_core is not in [mlx5_ib]",
	})
	for i := range c.Resources {
		for j := range c.Resources[i].Selectors { // as its author's kernel had them
			for k, driver := range c.Resources[i].Selectors[j].Drivers {
				switch driver {
				case "i40evf":
					c.Resources[i].Selectors[j].Drivers[k] = "iavf"
				case "mlx5_ib":
					c.Resources[i].Selectors[j].Drivers[k] = "mlx5_core"
				}
			}
		}
	}
	same(t, "choices with the names of today", offers(c, c.Select(node())), []string{
		"intel.com/intel_sriov_netdevice/0: 0000:3b:02.0 0000:3b:02.1 0000:3b:02.2 0000:3b:02.3 0000:3b:02.4 0000:3b:02.5 0000:3b:02.6 0000:3b:02.7",
		"intel.com/intel_sriov_dpdk/0:",
		"intel.com/mlnx_sriov_rdma/0: 0000:5e:02.0 0000:5e:02.1 0000:5f:02.0",
		"intel.com/infiniband_rdma_netdevs/0:",
	})
}

func TestWithheld(t *testing.T) {
	c, _ := read(t, `{"resourceList": [{"resourceName": "x", "selectors": {"vendors": ["8086"]}}],
		"pfs": [{"name": "ens3", "numVfs": 4}]}`)
	idle := intelVF("i40e")
	unbound := card(0x3b, "ens1", 2, intelVF("iavf"))
	unbound[1].Driver = ""
	functions := append(unbound, nic(0x10, "ens3", idle), nic(0x11, "ens4", idle))
	s := c.Select(functions)
	same(t, "choices", offers(c, s), []string{"intel.com/x/0: 0000:11:00.0 0000:3b:02.1"})
	var got []string
	for _, r := range c.Explain(functions) {
		if r.Resource != nil {
			t.Errorf("%s: refused for %s alone", r.Function.PCI, r.Resource.Name)
		}
		got = append(got, r.Function.PCI+": "+strings.Join(r.Why, "; "))
	}
	same(t, "reasons", got, []string{
		"0000:10:00.0: it is a PF that gets VFs by `pfs`, which are offered in its place",
		"0000:3b:00.0: it is a PF with 2 VFs, which are offered in its place",
		"0000:3b:02.0: no driver is bound to it",
	})
}

func TestNothingToOffer(t *testing.T) {
	c, _ := read(t, one(`{"isRdma": true}`))
	s := c.Select(nil)
	same(t, "choices", len(s.Choices), 0)
	same(t, "warnings", sayings(t, s.Warnings), []string{"intel.com/x: selectors: selects nothing that could be offered: the node has no function to offer"})
	same(t, "explained", len(c.Explain(nil)), 0)
}

// Domains of more than four digits do not sort as text.
func TestPCIOrder(t *testing.T) {
	var functions []sriov.Function
	for _, pci := range []string{"10000:01:00.0", "ffff:01:00.0", "0000:af:00.1", "0000:af:00.0"} {
		f := intelVF("iavf")
		f.PCI, f.PF.PCI = pci, "0000:01:00.0"
		functions = append(functions, f)
	}
	c, _ := read(t, one(`{"drivers": ["iavf"]}`))
	same(t, "choices", offers(c, c.Select(functions)), []string{"intel.com/x/0: 0000:af:00.0 0000:af:00.1 ffff:01:00.0 10000:01:00.0"})
}

// Every key says why, and only the first that fails does.
func TestExplain(t *testing.T) {
	c, _ := read(t, `{"resourceList": [
		{"resourceName": "a", "selectors": [{"pfNames": ["ens1f0#7"], "vendors": ["8086"]}]},
		{"resourceName": "b", "selectors": [
			{"vendors": ["15b3"]}, {"devices": ["1889"]}, {"drivers": ["vfio-pci", "igbvf"]}, {"pciAddresses": ["0000:00:00.0"]}, {"acpiIndexes": ["1"]},
			{"pfNames": ["ens1f0#1-3,5", "p1"]}, {"rootDevices": ["0000:3c:00.0"]}, {"linkTypes": ["infiniband"]}, {"isRdma": true}, {"vendors": ["8086"], "isRdma": true}]},
		{"resourceName": "c", "selectors": [{"isRdma": true}, {"pfNames": ["ens1f0"]}]}]}`)
	explain := func(f sriov.Function) []string {
		var got []string
		for _, r := range c.Explain([]sriov.Function{f}) {
			got = append(got, r.Resource.Name)
			got = append(got, r.Why...)
		}
		return got
	}
	vf7 := card(0x3b, "ens1f0", 8, intelVF("iavf"))[8]
	same(t, "VF 7", explain(vf7), []string{
		"intel.com/b",
		"selectors[0].vendors: 8086 is not in [15b3]",
		"selectors[1].devices: 154c is not in [1889]",
		"selectors[2].drivers: iavf is not in [vfio-pci igbvf]",
		"selectors[3].pciAddresses: 0000:3b:02.7 is not in [0000:00:00.0]",
		"selectors[4].acpiIndexes: it has none, want one of [1]",
		"selectors[5].pfNames: VF 7 of ens1f0 is not in [ens1f0#1-3,5 p1]",
		"selectors[6].rootDevices: VF 7 of 0000:3b:00.0 is not in [0000:3c:00.0]",
		"selectors[7].linkTypes: ether is not in [infiniband]",
		"selectors[8].isRdma: it has no RDMA device on the node",
		"selectors[9].isRdma: it has no RDMA device on the node",
		"intel.com/c",
		"selectors[1] takes it, but it goes to intel.com/a, which stands before it in the file",
	})
	vf7.PF.Name = "" // the PF's driver is gone
	same(t, "VF of a PF without a name", explain(vf7)[:2], []string{"intel.com/a", "selectors[0].pfNames: its PF has no network device, want one of [ens1f0#7]"})
	idle := nic(1, "ens9", intelVF("i40e"))
	same(t, "PF without VFs", explain(idle)[:2], []string{"intel.com/a", "selectors[0].pfNames: it is no VF, want one of [ens1f0#7]"})
}

func TestLongListsAreShortened(t *testing.T) {
	same(t, "list", brief(strings.Fields("0 1 2 3 4 5 6 7 8 9")), "[0 1 2 3 4 5 6 7 and 2 more]")
	same(t, "value", clip(strings.Repeat("ä", 50)), strings.Repeat("ä", 40)+"...")
}
