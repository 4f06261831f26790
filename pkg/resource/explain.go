package resource

import (
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Refusal says why a resource does not offer a function.
type Refusal struct {
	Function *sriov.Function
	Resource *Resource // nil: no resource may offer it
	Why      []string  // one for each selector, or one for all
}

// Explain says, by PCI address and in the order of the file, why functions
// are not offered by the resources that do not offer them. It decides as
// Select does, and takes longer.
func (c *Config) Explain(functions []sriov.Function) []Refusal {
	var all []Refusal
	for _, f := range byAddressOf(functions) {
		if why := c.withheld(f); why != "" {
			all = append(all, Refusal{Function: f, Why: []string{why}})
			continue
		}
		all = append(all, c.refusals(f)...)
	}
	return all
}

// refusals explains a function that may be offered.
func (c *Config) refusals(f *sriov.Function) []Refusal {
	var all []Refusal
	var owner *Resource
	for i := range c.Resources {
		res := &c.Resources[i]
		selector := res.takes(f)
		switch {
		case selector >= 0 && owner == nil:
			owner = res
		case selector >= 0:
			why := fmt.Sprintf("selectors[%d] takes it, but it goes to %s, which stands before it in the file", selector, owner.Name)
			all = append(all, Refusal{f, res, []string{why}})
		default:
			all = append(all, Refusal{f, res, res.whyNot(f)})
		}
	}
	return all
}

func (r *Resource) whyNot(f *sriov.Function) []string {
	why := make([]string, 0, len(r.Selectors))
	for i := range r.Selectors {
		why = append(why, r.missed(i, r.Selectors[i].miss(f), f))
	}
	return why
}
