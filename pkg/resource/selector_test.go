package resource

import (
	"fmt"
	"testing"
)

func one(selectors string) string {
	return fmt.Sprintf(`{"resourceList": [{"resourceName": "x", "selectors": %s}]}`, selectors)
}

func TestSelectorsAccepted(t *testing.T) {
	for _, tc := range []struct {
		name, raw string
		want      Selector
		problems  []string
	}{
		{"ids", `{"vendors": ["0x8086", "15B3"], "devices": ["154C"]}`, Selector{Vendors: []string{"8086", "15b3"}, Devices: []string{"154c"}}, nil},
		{"drivers", `{"drivers": ["vfio-pci", "mlx5_core"]}`, Selector{Drivers: []string{"vfio-pci", "mlx5_core"}}, nil},
		{"addresses", `{"pciAddresses": ["0000:0A:1F.7", "10000:01:00.0"]}`, Selector{PCIAddresses: []string{"0000:0a:1f.7", "10000:01:00.0"}}, nil},
		{"acpi", `{"acpiIndexes": ["101"]}`, Selector{ACPIIndexes: []string{"101"}}, nil},
		{"pfNames", `{"pfNames": ["ens1f0", "ens1f1#0,2-5,9"]}`, Selector{PFNames: []PFRange{{PF: "ens1f0"}, {PF: "ens1f1", Ranges: [][2]int{{0, 0}, {2, 5}, {9, 9}}}}}, nil},
		{"rootDevices", `{"rootDevices": ["0000:AF:00.0#65534"]}`, Selector{RootDevices: []PFRange{{PF: "0000:af:00.0", Ranges: [][2]int{{65534, 65534}}}}}, nil},
		{"one PF twice", `{"pfNames": ["p0#0-1", "p0#4"]}`, Selector{PFNames: []PFRange{{PF: "p0", Ranges: [][2]int{{0, 1}}}, {PF: "p0", Ranges: [][2]int{{4, 4}}}}}, nil},
		{"link types", `{"linkTypes": ["Ether", "infiniband"]}`, Selector{LinkTypes: []string{"ether", "infiniband"}}, nil},
		{"rdma alone", `{"isRdma": true}`, Selector{RDMA: true}, nil},
		{"vhost", `{"isRdma": true, "needVhostNet": true}`, Selector{RDMA: true, VhostNet: true}, nil},
		{"what needs nothing", `{"isRdma": true, "ddpProfiles": [], "pKeys": null, "vdpaType": "", "auxTypes": []}`, Selector{RDMA: true}, nil},
		{"an empty list", `{"isRdma": true, "vendors": []}`, Selector{RDMA: true},
			[]string{"intel.com/x: selectors[0].vendors: is empty, which is as if it were absent: name what is to be selected, or remove the key"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems := read(t, one("["+tc.raw+"]"))
			same(t, "problems", problems, tc.problems)
			same(t, "served", served(c), []string{"intel.com/x"})
			same(t, "selectors", c.Resources[0].Selectors, []Selector{tc.want})
		})
	}
}

func TestSelectorsRefused(t *testing.T) {
	const all = "vendors, devices, drivers, pciAddresses, acpiIndexes, pfNames, rootDevices, linkTypes, isRdma"
	const missing = "selectors: is missing or empty: say which devices the resource has, by at least one of " + all
	const everything = ": selects every NIC, also those that the node itself uses: name at least one of " + all
	const pf = `want the name of a network device such as "ens1f0", alone or with VFs behind it: "#0,2-5"`
	const indexes = `want VF indexes behind the '#', such as "#0,2-5"; `
	for _, tc := range []struct{ name, raw, want string }{
		{"null", `null`, missing},
		{"an empty list", `[]`, missing},
		{"an empty object", `{}`, "selectors" + everything},
		{"an empty object in a list", `[{"isRdma": true}, {}]`, "selectors[1]" + everything},
		{"vhost alone", `{"needVhostNet": true}`, "selectors" + everything},
		{"text", `"vendors"`, "selectors: is a string, want an object or an array of objects"},
		{"a list of text", `["vendors"]`, "selectors[0]: is a string, want an object"},
		{"vendor", `{"vendors": ["8086", "intel"]}`, `selectors.vendors[1]: "intel": want four hexadecimal digits such as "8086"`},
		{"vendor as text", `{"vendors": "8086"}`, `selectors.vendors: is "8086", want an array of strings`},
		{"vendor as a number", `{"vendors": [8086]}`, `selectors.vendors: is [8086], want an array of strings`},
		{"null in a list", `{"vendors": [null]}`, `selectors.vendors[0]: "": want four hexadecimal digits such as "8086"`},
		{"device", `{"devices": ["154"]}`, `selectors.devices[0]: "154": want four hexadecimal digits such as "8086"`},
		{"driver", `{"drivers": ["../vfio"]}`, `selectors.drivers[0]: "../vfio": want a driver's name such as "vfio-pci", as in /sys/bus/pci/drivers`},
		{"address", `{"pciAddresses": ["01:10.0"]}`, `selectors.pciAddresses[0]: "01:10.0": want a PCI address such as "0000:01:10.0" (domain:bus:device.function)`},
		{"acpi", `{"acpiIndexes": ["eno1"]}`, `selectors.acpiIndexes[0]: "eno1": want a number such as "101", as in the device's acpi_index`},
		{"link type", `{"linkTypes": ["ethernet"]}`, `selectors.linkTypes[0]: "ethernet": want "ether" or "infiniband"`},
		{"rdma", `{"isRdma": "yes"}`, `selectors.isRdma: is "yes", want true or false`},
		{"PF without a name", `{"pfNames": ["#0"]}`, `selectors.pfNames[0]: "#0": ` + pf},
		{"PF with a path", `{"pfNames": ["a/b"]}`, `selectors.pfNames[0]: "a/b": ` + pf},
		{"backwards", `{"pfNames": ["p0", "p0#5-2"]}`, `selectors.pfNames[1]: "p0#5-2": ` + indexes + `"5-2" runs backwards`},
		{"no index", `{"pfNames": ["p0#x"]}`, `selectors.pfNames[0]: "p0#x": ` + indexes + `"x" is no index and no range`},
		{"nothing behind #", `{"pfNames": ["p0#"]}`, `selectors.pfNames[0]: "p0#": ` + indexes + `"" is no index and no range`},
		{"a comma too many", `{"pfNames": ["p0#1,"]}`, `selectors.pfNames[0]: "p0#1,": ` + indexes + `"" is no index and no range`},
		{"a space", `{"pfNames": ["p0#1, 2"]}`, `selectors.pfNames[0]: "p0#1, 2": ` + indexes + `" 2" is no index and no range`},
		{"two ranges in one", `{"pfNames": ["p0#1-2-3"]}`, `selectors.pfNames[0]: "p0#1-2-3": ` + indexes + `"1-2-3" is no index and no range`},
		{"two #", `{"pfNames": ["p0#1#2"]}`, `selectors.pfNames[0]: "p0#1#2": ` + indexes + `"1#2" is no index and no range`},
		{"beyond", `{"pfNames": ["p0#65535"]}`, `selectors.pfNames[0]: "p0#65535": ` + indexes + `"65535" is beyond 65534`},
		{"root device by name", `{"rootDevices": ["ens1#0"]}`, `selectors.rootDevices[0]: "ens1#0": want a PCI address such as "0000:01:10.0" (domain:bus:device.function), alone or with VFs behind it: "#0,2-5"`},
		{"misspelt", `{"vendors": ["8086"], "pfName": ["p0"]}`, `selectors.pfName: is no key here: is "pfNames" meant?`},
		{"unknown", `{"vendors": ["8086"], "speed": ["25g"]}`, `selectors.speed: is no key here: want one of ` + all + `, needVhostNet, ddpProfiles, pKeys, vdpaType, auxTypes`},
		{"twice", `{"vendors": ["8086"], "Vendors": ["15b3"]}`, `selectors.Vendors: stands twice, also as "vendors": keep one`},
		{"ddp", `{"ddpProfiles": ["GTPv1-C/U IPv4/IPv6 payload"]}`, `selectors.ddpProfiles: "GTPv1-C/U IPv4/IPv6 payload": the NIC's DDP profile is not read: select by drivers, devices or pfNames instead, or keep sriov-network-device-plugin for this resource`},
		{"pKeys", `[{"pKeys": ["0x1", "0x2"]}]`, `selectors[0].pKeys: "0x1 0x2": InfiniBand partition keys are not read: select by pfNames or rootDevices instead, or keep sriov-network-device-plugin for this resource`},
		{"vdpa", `{"vendors": ["15b3"], "vdpaType": "virtio"}`, `selectors.vdpaType: "virtio": vDPA devices are not offered: keep sriov-network-device-plugin for this resource`},
		{"aux", `{"vendors": ["15b3"], "auxTypes": ["sf"]}`, `selectors.auxTypes: "sf": subfunctions are not offered: keep sriov-network-device-plugin for this resource`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems := read(t, one(tc.raw))
			same(t, "problems", problems, []string{"intel.com/x is left out: " + tc.want})
			same(t, "served", served(c), []string(nil))
		})
	}
}

func TestRangeAsWritten(t *testing.T) {
	for _, text := range []string{"p0", "p0#0", "ens1f0#0,2-5,9"} {
		c, problems := read(t, one(fmt.Sprintf(`{"pfNames": [%q]}`, text)))
		same(t, "problems", problems, []string(nil))
		same(t, "range", c.Resources[0].Selectors[0].PFNames[0].String(), text)
	}
}
