package resource

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const file = "sriov.json"

// sayings are problems as an operator reads them, without the file's name.
func sayings(t *testing.T, problems []Problem) []string {
	t.Helper()
	var all []string
	for _, p := range problems {
		text, ok := strings.CutPrefix(p.Error(), file+": ")
		if !ok {
			t.Errorf("the file is not named: %v", p)
		}
		if !errors.Is(p, network.Invalid) {
			t.Errorf("not of kind Invalid: %v", p)
		}
		all = append(all, text)
	}
	return all
}

// served are the names of what is taken from a file.
func served(c *Config) []string {
	var names []string
	for _, r := range c.Resources {
		names = append(names, r.Name)
	}
	return names
}

func read(t *testing.T, raw string) (*Config, []string) {
	t.Helper()
	c, problems, err := Parse(file, []byte(raw), "intel.com")
	if err != nil {
		t.Fatal(err)
	}
	return c, sayings(t, problems)
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The article's file, byte for byte.
func TestArticle(t *testing.T) {
	c, problems := read(t, string(fixture(t, "article.json")))
	same(t, "problems", problems, []string(nil))
	ids := []string{"154c", "10ed"}
	same(t, "configuration", c, &Config{Source: file, Resources: []Resource{
		{
			Name: "intel.com/intel_sriov_netdevice", Allocation: Pack,
			Selectors: []Selector{{Vendors: []string{"8086"}, Devices: ids, Drivers: []string{"i40evf", "ixgbevf"}}},
		},
		{
			Name: "intel.com/intel_sriov_dpdk", Allocation: Pack,
			Selectors: []Selector{{
				Vendors: []string{"8086"}, Devices: ids, Drivers: []string{"vfio-pci"},
				PFNames: []PFRange{{PF: "enp0s0f0"}, {PF: "enp2s2f1"}},
			}},
		},
		{
			Name: "intel.com/mlnx_sriov_rdma", Allocation: Pack,
			Selectors: []Selector{{Vendors: []string{"15b3"}, Devices: []string{"1018"}, Drivers: []string{"mlx5_ib"}, RDMA: true}},
		},
		{
			Name: "intel.com/infiniband_rdma_netdevs", Allocation: Pack,
			Selectors: []Selector{{LinkTypes: []string{"infiniband"}, RDMA: true}},
		},
	}})
}

// A file with every key of sriov-network-device-plugin: what is not offered
// here is named, the rest is served.
func TestMigratedFile(t *testing.T) {
	c, problems := read(t, string(fixture(t, "migrated.json")))
	const keep = "keep sriov-network-device-plugin for this resource"
	same(t, "problems", problems, []string{
		`intel.com/vdpa is left out: selectors[0].vdpaType: "vhost": vDPA devices are not offered: ` + keep,
		`intel.com/fpga is left out: deviceType: accelerators are not offered, network functions alone: ` + keep,
		`intel.com/sf is left out: deviceType: subfunctions (auxNetDevice) are not offered: ` + keep,
		`intel.com/sf is left out: selectors[0].auxTypes: "sf": subfunctions are not offered: ` + keep,
		`intel.com/gtp is left out: selectors[0].ddpProfiles: "GTP": the NIC's DDP profile is not read: select by drivers, devices or pfNames instead, or ` + keep,
		`intel.com/partition is left out: selectors[0].pKeys: "0x8001": InfiniBand partition keys are not read: select by pfNames or rootDevices instead, or ` + keep,
	})
	same(t, "resources", c.Resources, []Resource{
		{Name: "intel.com/x710", Allocation: Pack, Selectors: []Selector{{Vendors: []string{"8086"}, Devices: []string{"154c", "1889"}, Drivers: []string{"iavf"}}}},
		{Name: "telco.example/x710_dpdk", Allocation: Pack, Selectors: []Selector{
			{
				Vendors: []string{"8086"}, Drivers: []string{"vfio-pci"}, VhostNet: true,
				PFNames: []PFRange{{PF: "ens1f0", Ranges: [][2]int{{4, 7}}}, {PF: "ens1f1"}},
			},
			{Drivers: []string{"vfio-pci"}, RootDevices: []PFRange{{PF: "0000:3b:00.0", Ranges: [][2]int{{0, 0}}}}},
		}},
		{Name: "intel.com/cx5", Allocation: Pack, ExcludeTopology: true, Selectors: []Selector{{Vendors: []string{"15b3"}, Devices: []string{"1018"}, RDMA: true}}},
		{
			Name: "intel.com/ib", Allocation: Pack, Selectors: []Selector{{LinkTypes: []string{"infiniband"}, RDMA: true}},
			AdditionalInfo: map[string]map[string]string{"*": {"fabric": "a"}, "0000:5e:00.1": {"fabric": "b"}},
		},
		{Name: "intel.com/onboard", Allocation: Pack, Selectors: []Selector{{PCIAddresses: []string{"0000:02:00.1"}, ACPIIndexes: []string{"101"}}}},
	})
}

func TestNothingServed(t *testing.T) {
	const list = `"resourceList": []`
	for _, tc := range []struct {
		name, raw, want string
		kind            network.Kind
	}{
		{"empty", "", "sriov.json: is no JSON: unexpected end of JSON input", network.Malformed},
		{"cut off", "{\"resourceList\": [\n{", "sriov.json: is no JSON at line 2, column 1: unexpected end of JSON input", network.Malformed},
		{"a comment", "{\n  // mine\n" + list + "}", "sriov.json: is no JSON at line 2, column 3: invalid character '/' looking for beginning of object key string", network.Malformed},
		{"two documents", "{" + list + "} {}", "sriov.json: is no JSON at line 1, column 22: invalid character '{' after top-level value", network.Malformed},
		{"a comma too many", "{\"resourceList\": [\n  {\"resourceName\": \"x\"},\n]}", "sriov.json: is no JSON at line 3, column 1: invalid character ']' looking for beginning of value", network.Malformed},
		{"an array", `[{}]`, "sriov.json: is an array, want an object with a resourceList", network.Malformed},
		{"null", `null`, "sriov.json: is null, want an object with a resourceList", network.Malformed},
		{"no list", `{}`, "sriov.json: resourceList: is missing: want an array of resources, each with resourceName and selectors", network.Invalid},
		{"null list", `{"resourceList": null}`, "sriov.json: resourceList: is missing: want an array of resources, each with resourceName and selectors", network.Invalid},
		{"misspelt", `{"resourcesList": []}`, `sriov.json: resourceList: is missing: is "resourcesList" meant for it?`, network.Invalid},
		{"an object for a list", `{"resourceList": {}}`, "sriov.json: resourceList: is an object, want an array of resources", network.Invalid},
		{"twice", `{` + list + `, "ResourceList": []}`, `sriov.json: ResourceList: stands twice, also as "resourceList": keep one`, network.Invalid},
		{"too large", `{` + list + strings.Repeat(" ", 1<<20) + `}`, "sriov.json: has 1048596 bytes, at most 1048576 are read", network.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems, err := Parse(file, []byte(tc.raw), "intel.com")
			if c != nil || problems != nil || !errors.Is(err, tc.kind) {
				t.Fatalf("got %v, %v, error %v; want one of kind %q", c, problems, err, tc.kind)
			}
			same(t, "error", err.Error(), tc.want)
		})
	}
}

// Each file has one resource more, which is served whatever the other is.
func TestResourceKeys(t *testing.T) {
	const good = `"selectors": {"drivers": ["igbvf"]}`
	dropped := "intel.com/x is left out: "
	for _, tc := range []struct {
		name, members string
		want          []string // problems
		refused       bool
	}{
		{"least", `"resourceName": "x", ` + good, nil, false},
		{"any case", `"ResourceName": "x", "SELECTORS": [{"Drivers": ["igbvf"], "isRDMA": true}]`, nil, false},
		{"null is absent", `"resourceName": "x", "resourcePrefix": null, "isRdma": null, "additionalInfo": null, ` + good, nil, false},
		{"no name", good, []string{"resourceList[0] is left out: resourceName: is missing: name the resource, with letters, digits, '_' and '-'"}, true},
		{"name of another kind", `"resourceName": 5, ` + good, []string{"resourceList[0] is left out: resourceName: is 5, want a string"}, true},
		{"name with a dot", `"resourceName": "a.b", ` + good, []string{`resourceList[0] is left out: resourceName: "a.b": want at most 63 letters, digits, '_' and '-', a letter or digit first and last`}, true},
		{"name that kubelet refuses", `"resourceName": "a_", ` + good, []string{`resourceList[0] is left out: resourceName: "a_": want at most 63 letters, digits, '_' and '-', a letter or digit first and last`}, true},
		{"prefix in capitals", `"resourceName": "x", "resourcePrefix": "Intel.com", ` + good, []string{`resourceList[0] is left out: resourcePrefix: "Intel.com": want a DNS name in lower case such as intel.com, at most 244 characters`}, true},
		{"kubernetes.io", `"resourceName": "x", "resourcePrefix": "net.kubernetes.io", ` + good, []string{`resourceList[0] is left out: resourcePrefix: "net.kubernetes.io": kubelet takes no resources of kubernetes.io: use a domain of your own`}, true},
		{"requests.", `"resourceName": "x", "resourcePrefix": "requests.io", ` + good, []string{`resourceList[0] is left out: resourcePrefix: "requests.io": kubelet keeps names that begin with "requests." for quotas: use another domain`}, true},
		{"deviceType", `"resourceName": "x", "deviceType": "netdevice", ` + good, []string{dropped + `deviceType: "netdevice": want "netDevice", or leave the key out`}, true},
		{"allocation", `"resourceName": "x", "allocation": "packed", ` + good, []string{dropped + `allocation: "packed": want "pack", "spread" or "near"`}, true},
		{"topology", `"resourceName": "x", "excludeTopology": "true", ` + good, []string{dropped + `excludeTopology: is "true", want true or false`}, true},
		{"additionalInfo's shape", `"resourceName": "x", "additionalInfo": {"*": {"a": 5}, "0000:01:10.0": []}, ` + good, []string{
			dropped + `additionalInfo.*.a: is 5, want a string`,
			dropped + `additionalInfo.0000:01:10.0: is an array, want an object of strings`,
		}, true},
		{"additionalInfo as text", `"resourceName": "x", "additionalInfo": "a=1", ` + good, []string{
			dropped + `additionalInfo: is a string, want an object such as {"*": {"key": "value"}}`,
		}, true},
		{"additionalInfo's keys", `"resourceName": "x", "additionalInfo": {"ens1": {}, "0000:0A:10.0": {"a": "1", "a": "2"}, "0000:0a:10.0": {}}, ` + good, []string{
			dropped + `additionalInfo: "ens1": want "*" or a PCI address such as "0000:01:10.0" (domain:bus:device.function)`,
			dropped + `additionalInfo.0000:0a:10.0.a: stands twice: keep one`,
			dropped + `additionalInfo: "0000:0a:10.0" stands twice: keep one`,
		}, true},
		{"misspelt", `"resourceName": "x", "excludeTopolgy": true, ` + good, []string{`intel.com/x: excludeTopolgy: is no key here: is "excludeTopology" meant?`}, false},
		{"unknown", `"resourceName": "x", "colour": "red", ` + good, []string{`intel.com/x: colour: is no key here: want one of resourceName, resourcePrefix, deviceType, excludeTopology, selectors, isRdma, additionalInfo, allocation`}, false},
		{"a misspelt filter", `"resourceName": "x", "isRmda": true, ` + good, []string{dropped + `isRmda: is no key here: is "isRdma" meant?`}, true},
		{"a selector out of place", `"resourceName": "x", "pfName": ["ens1"], ` + good, []string{dropped + `pfName: is no key here: put "pfNames" into selectors`}, true},
		{"twice", `"resourceName": "x", ` + good + `, ` + good, []string{dropped + `selectors: stands twice: keep one`}, true},
		{"twice in two cases", `"resourceName": "x", "allocation": "near", "Allocation": "pack", ` + good, []string{dropped + `Allocation: stands twice, also as "allocation": keep one`}, true},
		{"two mistakes", `"resourceName": "x", "deviceType": "accelerator", "selectors": 1`, []string{
			dropped + `deviceType: accelerators are not offered, network functions alone: keep sriov-network-device-plugin for this resource`,
			dropped + `selectors: is a number, want an object or an array of objects`,
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems := read(t, `{"resourceList": [{`+tc.members+`}, {"resourceName": "other", `+good+`}]}`)
			same(t, "problems", problems, tc.want)
			want := []string{"intel.com/x", "intel.com/other"}
			if tc.refused {
				want = want[1:]
			}
			same(t, "resources", served(c), want)
		})
	}
}

func TestResourceValues(t *testing.T) {
	c, problems := read(t, `{"resourceList": [
		{"resourceName": "X-1", "resourcePrefix": "example.com", "deviceType": "netDevice", "excludeTopology": true, "allocation": "spread",
		 "additionalInfo": {"0000:0A:10.0": {"vlan": "7"}}, "isRdma": true, "selectors": {}}]}`)
	same(t, "problems", problems, []string(nil))
	same(t, "resource", c.Resources, []Resource{{
		Name: "example.com/X-1", ExcludeTopology: true, Allocation: Spread,
		AdditionalInfo: map[string]map[string]string{"0000:0a:10.0": {"vlan": "7"}},
		Selectors:      []Selector{{RDMA: true}},
	}})
}

func TestEntriesThatAreNone(t *testing.T) {
	c, problems := read(t, `{"resourceList": ["x", null, {"resourceName": "x", "selectors": {"isRdma": true}}], "_comment": ""}`)
	same(t, "problems", problems, []string{
		`_comment: is no key here: want one of resourceList, pfs`,
		`resourceList[0] is left out: is a string, want an object`,
		`resourceList[1] is left out: is null, want an object`,
	})
	same(t, "resources", served(c), []string{"intel.com/x"})

	_, problems = read(t, `{"resourceList": []}`)
	same(t, "problems of none", problems, []string{"resourceList: is empty: no device is offered"})
}

func TestDefaultPrefix(t *testing.T) {
	raw := []byte(`{"resourceList": [{"resourceName": "a", "selectors": {"isRdma": true}}, {"resourceName": "a", "resourcePrefix": "b.io", "selectors": {"isRdma": true}}]}`)
	for _, tc := range []struct {
		prefix string
		names  []string
		want   []string
	}{
		{"mine.org", []string{"mine.org/a", "b.io/a"}, nil},
		{"", []string{"b.io/a"}, []string{`resourceList[0] is left out: resourcePrefix: "" (the default, as the resource has no resourcePrefix): want a DNS name in lower case such as intel.com, at most 244 characters`}},
		{"kubernetes.io", []string{"b.io/a"}, []string{`resourceList[0] is left out: resourcePrefix: "kubernetes.io" (the default, as the resource has no resourcePrefix): kubelet takes no resources of kubernetes.io: use a domain of your own`}},
	} {
		c, problems, err := Parse(file, raw, tc.prefix)
		if err != nil {
			t.Fatal(err)
		}
		same(t, tc.prefix+": names", served(c), tc.names)
		same(t, tc.prefix+": problems", sayings(t, problems), tc.want)
	}
}

func TestNamesThatMeet(t *testing.T) {
	c, problems := read(t, `{"resourceList": [
		{"resourceName": "vf", "selectors": {"drivers": ["igbvf"]}},
		{"resourceName": "vf", "resourcePrefix": "intel.com", "selectors": {"drivers": ["iavf"]}},
		{"resourceName": "VF", "selectors": {"drivers": ["vfio-pci"]}}]}`)
	same(t, "problems", problems, []string{
		"intel.com/vf is left out: resourceName: an earlier entry has this name already: put both entries' selectors into one list, or rename one",
		"intel.com/VF: resourceName: a container with this resource and intel.com/vf gets one variable PCIDEVICE_INTEL_COM_VF for both: rename one",
	})
	same(t, "resources", served(c), []string{"intel.com/vf", "intel.com/VF"})
	same(t, "the first stays", c.Resources[0].Selectors, []Selector{{Drivers: []string{"igbvf"}}})
}

func TestEnvName(t *testing.T) {
	same(t, "variable", EnvName("k8s.intel.com/fast-vf_1"), "PCIDEVICE_K8S_INTEL_COM_FAST-VF_1")
}

// What the file says reaches terminals and logs as it reads, and no more.
func TestProblemsAreOneLine(t *testing.T) {
	_, problems, err := Parse("f", []byte(`{"\u001b]0;x\u0007": 1, "resourceList": [
		{"resourceName": "a", "selectors": {"\u001b[2J\n0000:00:00.0 Healthy\u202e": 1}, "\u009bx": 1},
		{"resourceName": "b", "additionalInfo": {"*": {"\u001b[31m": 1, "k": {
			"x": "`+"\u202e"+`"}}}, "selectors": {"pfNames": "\u007f`+"\u007f"+`"}}]}`), "intel.com")
	if err != nil || len(problems) < 5 {
		t.Fatal(problems, err)
	}
	for _, p := range problems {
		if i := strings.IndexFunc(p.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q", p.Error())
		}
	}
}

// A name that no file can have is refused.
func TestLongNames(t *testing.T) {
	prefix, name := strings.Repeat(strings.Repeat("a", 49)+".", 3)+"com", strings.Repeat("n", 63)
	for _, more := range []string{"", strings.Repeat("b", 9) + "."} {
		config, problems, err := Parse("f", []byte(`{"resourceList": [{"resourcePrefix": "`+more+prefix+`", "resourceName": "`+name+`", "selectors": {"drivers": ["iavf"]}}]}`), "")
		if err != nil || (len(config.Resources) == 1) != (more == "") {
			t.Errorf("%d characters: %v, %v", len(more+prefix+name)+1, problems, err)
		}
	}
}
