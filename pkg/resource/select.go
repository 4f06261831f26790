package resource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Selection is which resource offers which function.
type Selection struct {
	Choices  []Choice  // by PCI address
	Warnings []Problem // resources that got nothing, functions that two select
}

// Select gives each function to the first resource of the file, and there to
// the first selector, that takes it. The order of `functions` does not matter.
//
// It knows what the file and the functions say. That a function is in a pod,
// where the node sees neither its network device nor its RDMA device, or that
// it carries the node's own address, is the caller's to know. Explain says
// why a function was not selected.
func (c *Config) Select(functions []sriov.Function) Selection {
	s := selecting{config: c, got: make([]int, len(c.Resources)), overlaps: map[[2]int]*overlap{}}
	for _, f := range byAddressOf(functions) {
		if c.withheld(f) == "" {
			s.offered = append(s.offered, f)
			s.place(f)
		}
	}
	return Selection{Choices: s.choices, Warnings: s.warnings()}
}

// byAddressOf sorts functions as the bus does. Domains of more than four
// digits, behind a VMD controller, come last.
func byAddressOf(functions []sriov.Function) []*sriov.Function {
	all := make([]*sriov.Function, len(functions))
	for i := range functions {
		all[i] = &functions[i]
	}
	slices.SortStableFunc(all, func(a, b *sriov.Function) int {
		return cmp.Or(cmp.Compare(len(a.PCI), len(b.PCI)), cmp.Compare(a.PCI, b.PCI))
	})
	return all
}

// withheld says why no resource may have a function, whatever it selects; ""
// if one may.
func (c *Config) withheld(f *sriov.Function) string {
	switch {
	case f.Index < 0 && len(f.PF.VFs) > 0:
		return fmt.Sprintf("it is a PF with %d VFs, which are offered in its place", len(f.PF.VFs))
	case f.Index < 0 && c.PF(&f.PF) != nil:
		return "it is a PF that gets VFs by `pfs`, which are offered in its place"
	case f.Driver == "":
		return "no driver is bound to it"
	}
	return ""
}

// takes returns the index of a resource's first selector that takes a
// function, -1 if none does.
func (r *Resource) takes(f *sriov.Function) int {
	for i := range r.Selectors {
		if r.Selectors[i].miss(f) == steps {
			return i
		}
	}
	return -1
}

// selecting is a selection that is being made.
type selecting struct {
	config   *Config
	offered  []*sriov.Function
	choices  []Choice
	got      []int // functions by resource
	overlaps map[[2]int]*overlap
}

// overlap is what two resources select both.
type overlap struct {
	count int
	first string // address
}

func (s *selecting) place(f *sriov.Function) {
	owner := -1
	for i := range s.config.Resources {
		res := &s.config.Resources[i]
		selector := res.takes(f)
		switch {
		case selector < 0:
		case owner < 0:
			owner = i
			s.got[i]++
			s.choices = append(s.choices, Choice{Function: *f, Resource: res, Selector: &res.Selectors[selector]})
		default:
			pair := [2]int{owner, i}
			if s.overlaps[pair] == nil {
				s.overlaps[pair] = &overlap{first: f.PCI}
			}
			s.overlaps[pair].count++
		}
	}
}

func (s *selecting) warnings() []Problem {
	var all []Problem
	pairs := slices.SortedFunc(maps.Keys(s.overlaps), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	for _, pair := range pairs {
		both := s.overlaps[pair]
		all = append(all, s.warn(pair[1], "%s that it selects too (first %s) go to %s, which stands before it in the file",
			devices(both.count), both.first, s.config.Resources[pair[0]].Name))
	}
	for i, got := range s.got {
		if got == 0 {
			all = append(all, s.warn(i, "selects nothing that could be offered: %s", s.closest(i)))
		}
	}
	return all
}

func (s *selecting) warn(resource int, format string, args ...any) Problem {
	return Problem{s.config.Source, s.config.Resources[resource].Name, "selectors", fmt.Sprintf(format, args...), false}
}

func devices(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

// closest says what a resource that got nothing fell short of: the function
// that passed the most steps, a VF rather than another.
func (s *selecting) closest(resource int) string {
	res := &s.config.Resources[resource]
	far, at, near := -1, 0, (*sriov.Function)(nil)
	for _, f := range s.offered {
		for i := range res.Selectors {
			step := res.Selectors[i].miss(f)
			if step == steps {
				return "earlier resources have all that it selects"
			}
			if step > far || step == far && near.Index < 0 && f.Index >= 0 {
				far, at, near = step, i, f
			}
		}
	}
	if near == nil {
		return "the node has no function to offer"
	}
	return fmt.Sprintf("%s comes closest, but %s", near.PCI, res.missed(at, far, near))
}

// missed says why a selector does not take a function.
func (r *Resource) missed(selector, step int, f *sriov.Function) string {
	return fmt.Sprintf("selectors[%d].%s", selector, r.Selectors[selector].why(step, f))
}
