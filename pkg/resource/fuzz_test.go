package resource

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Whatever comes in: no panic, an error of a kind that a caller knows or
// resources that kubelet takes and that do not select everything. What was
// accepted selects the same every time, and each function is either offered or
// explained.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"article.json", "migrated.json"} {
		raw, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "intel.com")
	}
	f.Add([]byte(one(`[{"pfNames":["ens1f0#0,2-5","ens2"],"vendors":["0X8086"],"Drivers":[]},{"isRdma":true}]`)), "a.b-c")
	f.Add([]byte(one(`{"rootDevices":["0000:3B:00.0#5-2"],"linkTypes":["ether","x"],"speed":1,"speed":2}`)), "kubernetes.io")
	f.Add([]byte(`{"pfs":[{"name":"ens9","numVfs":8,"driver":"vfio-pci","mtu":9000},{"pciAddress":"0000:3b:00.0","numVfs":1}],"resourceList":[{"resourceName":"a","additionalInfo":{"*":{"a":"1","a":"2"}},"selectors":{"vendors":["8086"]}},{"resourceName":"A","selectors":{"vendors":["15b3"]}}]}`), "x")
	f.Add([]byte("{\"resourceList\":[{\"\u017felectors\":{}},null],\"pfs\":{},\"pfs\":[]}"), "")
	f.Add([]byte(`{"resourceList":[`), "x")
	functions := append(node(), nic(0x10, "ens9", intelVF("i40e")))
	f.Fuzz(func(t *testing.T, raw []byte, prefix string) {
		c, problems, err := Parse(file, raw, prefix)
		if err != nil {
			if c != nil || !errors.Is(err, network.Invalid) && !errors.Is(err, network.Malformed) {
				t.Errorf("configuration %v with an error of no kind: %v", c, err)
			}
			return
		}
		for _, p := range problems {
			if p.Text == "" || !strings.HasPrefix(p.Error(), file+": ") {
				t.Errorf("a problem that says too little: %v", p)
			}
		}
		wantServable(t, c)
		wantEachOnce(t, c, functions)
		again, _, err := Parse(file, raw, prefix)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("read again: %v, %v; first it was %v", again, err, c)
		}
	})
}

func wantServable(t *testing.T, c *Config) {
	t.Helper()
	names := map[string]bool{}
	for _, r := range c.Resources {
		prefix, name, _ := strings.Cut(r.Name, "/")
		if prefix == "" || name == "" || len(name) > 63 || strings.ContainsAny(name, "/. \x00") || strings.Contains(r.Name, "kubernetes.io/") || names[r.Name] {
			t.Errorf("resource %q is served", r.Name)
		}
		names[r.Name] = true
		if len(r.Selectors) == 0 || !slices.Contains([]Policy{Pack, Spread, Near}, r.Allocation) {
			t.Errorf("resource %s: %d selectors, allocation %q", r.Name, len(r.Selectors), r.Allocation)
		}
		for i := range r.Selectors {
			if r.Selectors[i].everything() {
				t.Errorf("resource %s: selectors[%d] selects every NIC", r.Name, i)
			}
		}
	}
	for _, pf := range c.PFs {
		if (pf.Name == "") == (pf.PCI == "") || pf.NumVFs < 1 || strings.ContainsAny(pf.Name+pf.Driver, "/\x00") || pf.MTU != 0 && pf.MTU < 68 {
			t.Errorf("PF %+v is provisioned", pf)
		}
	}
}

// wantEachOnce: a function is one resource's, and every other explains itself.
func wantEachOnce(t *testing.T, c *Config, functions []sriov.Function) {
	t.Helper()
	s := c.Select(functions)
	shuffled := slices.Clone(functions)
	slices.Reverse(shuffled)
	if again := c.Select(shuffled); !reflect.DeepEqual(s, again) {
		t.Errorf("another order selects %v, not %v", again, s)
	}
	answers := map[string]int{}
	for _, choice := range s.Choices {
		if choice.Selector.miss(&choice.Function) != steps || choice.Index < 0 && len(choice.PF.VFs) > 0 {
			t.Errorf("%s is offered as %s", choice.PCI, choice.Resource.Name)
		}
		answers[choice.PCI]++
	}
	for _, refusal := range c.Explain(functions) {
		if refusal.Resource == nil {
			answers[refusal.Function.PCI] += len(c.Resources)
			continue
		}
		answers[refusal.Function.PCI]++
		if len(refusal.Why) == 0 || strings.Join(refusal.Why, "") == "" {
			t.Errorf("%s: %s gives no reason", refusal.Function.PCI, refusal.Resource.Name)
		}
	}
	for _, f := range functions {
		if answers[f.PCI] != len(c.Resources) {
			t.Errorf("%s: %d answers of %d resources", f.PCI, answers[f.PCI], len(c.Resources))
		}
	}
}
