package resource

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func TestPFs(t *testing.T) {
	const word = `want a driver's name such as "vfio-pci": lower-case letters, digits, '_' and '-'`
	for _, tc := range []struct {
		name, raw string
		want      []PF
		problems  []string
	}{
		{"by name", `[{"name": "ens1f0", "numVfs": 8}]`, []PF{{Name: "ens1f0", NumVFs: 8}}, nil},
		{"by address", `[{"pciAddress": "0000:AF:00.0", "numVfs": 1, "driver": "vfio-pci", "mtu": 9000}]`,
			[]PF{{PCI: "0000:af:00.0", NumVFs: 1, Driver: "vfio-pci", MTU: 9000}}, nil},
		{"null is absent", `[{"name": "p0", "pciAddress": null, "numVfs": 1, "driver": null}]`, []PF{{Name: "p0", NumVFs: 1}}, nil},
		{"none", `[]`, nil, nil},
		{"no list", `{}`, nil, []string{"pfs: is an object, want an array of objects: no PF is provisioned"}},
		{"no object", `["ens1f0"]`, nil, []string{"pfs[0] is left out: is a string, want an object"}},
		{"neither", `[{"numVfs": 1}]`, nil, []string{"pfs[0] is left out: want either name or pciAddress, to say which PF it is"}},
		{"both", `[{"name": "p0", "pciAddress": "0000:af:00.0", "numVfs": 1}]`, nil, []string{"pfs[0] is left out: want either name or pciAddress, to say which PF it is"}},
		{"empty name", `[{"name": "", "numVfs": 1}]`, nil, []string{`pfs[0] is left out: name: "": want the name of a network device such as "ens1f0"`}},
		{"a path", `[{"name": "../p0", "numVfs": 1}]`, nil, []string{`pfs[0] is left out: name: "../p0": want the name of a network device such as "ens1f0"`}},
		{"bad address", `[{"pciAddress": "af:00.0", "numVfs": 1}]`, nil, []string{`pfs[0] is left out: pciAddress: "af:00.0": want a PCI address such as "0000:01:10.0" (domain:bus:device.function)`}},
		{"no number", `[{"name": "p0"}]`, nil, []string{"pfs[0] is left out: numVfs: is missing: say how many VFs the PF is to have"}},
		{"zero", `[{"name": "p0", "numVfs": 0}]`, nil, []string{"pfs[0] is left out: numVfs: 0: want 1 to 65535"}},
		{"half", `[{"name": "p0", "numVfs": 1.5}]`, nil, []string{"pfs[0] is left out: numVfs: is 1.5, want an integer"}},
		{"driver's path", `[{"name": "p0", "numVfs": 1, "driver": "../x"}]`, nil, []string{`pfs[0] is left out: driver: "../x": ` + word}},
		{"empty driver", `[{"name": "p0", "numVfs": 1, "driver": ""}]`, nil, []string{`pfs[0] is left out: driver: "": ` + word}},
		{"mtu", `[{"name": "p0", "numVfs": 1, "mtu": 67}, {"name": "p1", "numVfs": 1, "mtu": 65536}, {"name": "p2", "numVfs": 1, "mtu": 68}]`,
			[]PF{{Name: "p2", NumVFs: 1, MTU: 68}},
			[]string{"pfs[0] is left out: mtu: 67: want 68 to 65535", "pfs[1] is left out: mtu: 65536: want 68 to 65535"}},
		{"misspelt", `[{"name": "p0", "numvf": 1}]`, nil, []string{
			`pfs[0] is left out: numvf: is no key here: is "numVfs" meant?`,
			"pfs[0] is left out: numVfs: is missing: say how many VFs the PF is to have",
		}},
		{"key twice", `[{"name": "p0", "numVfs": 1, "numVFs": 2}]`, nil, []string{`pfs[0] is left out: numVFs: stands twice, also as "numVfs": keep one`}},
		{"PF twice", `[{"pciAddress": "0000:af:00.0", "numVfs": 1}, {"name": "p0", "numVfs": 2}, {"pciAddress": "0000:AF:00.0", "numVfs": 3}]`,
			[]PF{{PCI: "0000:af:00.0", NumVFs: 1}, {Name: "p0", NumVFs: 2}},
			[]string{"pfs[2] is left out: 0000:af:00.0 has an entry already, pfs[0]: keep one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems := read(t, `{"pfs": `+tc.raw+`, "resourceList": [{"resourceName": "x", "selectors": {"isRdma": true}}]}`)
			same(t, "problems", problems, tc.problems)
			same(t, "PFs", c.PFs, tc.want)
			same(t, "in doubt", c.PFsInDoubt, tc.problems != nil)
			same(t, "resources", served(c), []string{"intel.com/x"})
		})
	}
}

func TestPFsTwice(t *testing.T) {
	c, problems := read(t, `{"pfs": [{"name": "p0", "numVfs": 1}], "PFs": [], "resourceList": [{"resourceName": "x", "selectors": {"isRdma": true}}]}`)
	same(t, "problems", problems, []string{`PFs: stands twice, also as "pfs": keep one; no PF is provisioned`})
	same(t, "PFs", c.PFs, []PF(nil))
	same(t, "in doubt", c.PFsInDoubt, true)
	same(t, "resources", served(c), []string{"intel.com/x"})
}

func TestPFLookup(t *testing.T) {
	c := &Config{PFs: []PF{{Name: "p0", NumVFs: 1}, {PCI: "0000:af:00.0", NumVFs: 2}}}
	for _, tc := range []struct {
		pf   sriov.PF
		want *PF
	}{
		{sriov.PF{PCI: "0000:af:00.0", Name: "p0"}, &c.PFs[1]},
		{sriov.PF{PCI: "0000:af:00.1", Name: "p0"}, &c.PFs[0]},
		{sriov.PF{PCI: "0000:af:00.0"}, &c.PFs[1]},
		{sriov.PF{PCI: "0000:af:00.1", Name: "P0"}, nil},
		{sriov.PF{PCI: "0000:af:00.1"}, nil},
	} {
		if got := c.PF(&tc.pf); got != tc.want {
			t.Errorf("PF %s %q: entry %v, want %v", tc.pf.PCI, tc.pf.Name, got, tc.want)
		}
	}
}
