package resource

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// big is a node of 512 VFs on 4 ports and a file of 10 resources with two
// selectors each, the last of which select most.
func big(t testing.TB) (*Config, []sriov.Function) {
	t.Helper()
	var functions []sriov.Function
	for port := range 4 {
		functions = append(functions, card(0x30+port, fmt.Sprintf("ens%d", port), 128, intelVF("iavf"))...)
	}
	var entries []string
	for i := range 10 {
		entries = append(entries, fmt.Sprintf(`{"resourceName": "r%d", "selectors": [
			{"vendors": ["8086"], "devices": ["154c", "1889"], "drivers": ["iavf"], "pfNames": ["ens%d#%d-%d"]},
			{"vendors": ["8086"], "drivers": ["vfio-pci"]}]}`, i, i%4, i*10, i*13+5))
	}
	c, problems, err := Parse(file, []byte(`{"resourceList": [`+strings.Join(entries, ",")+`]}`), "intel.com")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return c, functions
}

// The agent selects at every change of the node: 5 ms at most.
func BenchmarkSelect(b *testing.B) {
	c, functions := big(b)
	slices.Reverse(functions)
	for b.Loop() {
		if s := c.Select(functions); len(s.Choices) == 0 {
			b.Fatal("nothing is selected")
		}
	}
	if each := b.Elapsed() / time.Duration(b.N); each > 5*time.Millisecond {
		b.Errorf("%v for 512 VFs and 10 resources, want 5 ms at most", each)
	}
}

func BenchmarkExplain(b *testing.B) {
	c, functions := big(b)
	for b.Loop() {
		if len(c.Explain(functions)) == 0 {
			b.Fatal("nothing is explained")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	raw := fixture(b, "article.json")
	for b.Loop() {
		if _, _, err := Parse(file, raw, "intel.com"); err != nil {
			b.Fatal(err)
		}
	}
}

// A selection costs no memory but for its choices: it is made often.
func TestSelectAllocatesLittle(t *testing.T) {
	c, functions := big(t)
	if n := testing.AllocsPerRun(5, func() { c.Select(functions) }); n > 100 {
		t.Errorf("%v allocations for %d functions, want at most 100", n, len(functions))
	}
}
