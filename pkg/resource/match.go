package resource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// The steps of a selector, in the order of sriov-network-device-plugin. Each
// is the index of its key in criteria().
const (
	byVendor = iota
	byDevice
	byDriver
	byAddress
	byACPIIndex
	byPFName
	byRootDevice
	byLinkType
	byRDMA
	steps // a function that gets here is selected
)

// everything reports whether the selector takes every function.
func (s *Selector) everything() bool {
	return s.miss(&sriov.Function{Device: sriov.Device{Index: -1}}) == steps
}

// miss returns the first step that a function does not pass, `steps` if the
// selector takes it.
func (s *Selector) miss(f *sriov.Function) int {
	for step := range steps {
		if !s.passes(step, f) {
			return step
		}
	}
	return steps
}

func (s *Selector) passes(step int, f *sriov.Function) bool {
	switch step {
	case byVendor:
		return open(s.Vendors, f.Vendor)
	case byDevice:
		return open(s.Devices, f.Product)
	case byDriver:
		return open(s.Drivers, f.Driver)
	case byAddress:
		return open(s.PCIAddresses, f.PCI)
	case byACPIIndex:
		return open(s.ACPIIndexes, f.ACPIIndex)
	case byPFName:
		return ofPF(s.PFNames, f.PF.Name, f.Index)
	case byRootDevice:
		return ofPF(s.RootDevices, f.PF.PCI, f.Index)
	case byLinkType:
		return open(s.LinkTypes, f.LinkType)
	default:
		return !s.RDMA || len(f.RDMA) > 0
	}
}

// open reports whether a value is in the list; a list that is not given
// keeps nobody out.
func open(list []string, value string) bool {
	return len(list) == 0 || slices.Contains(list, value)
}

// ofPF reports whether a VF of a PF is in one of the ranges. A PF itself is
// in none: pfNames and rootDevices name VFs by their PF.
func ofPF(ranges []PFRange, pf string, index int) bool {
	if len(ranges) == 0 {
		return true
	}
	if pf == "" || index < 0 {
		return false
	}
	for i := range ranges {
		if strings.EqualFold(ranges[i].PF, pf) && ranges[i].has(index) {
			return true
		}
	}
	return false
}

// why says why a function does not pass a step.
func (s *Selector) why(step int, f *sriov.Function) string {
	key := criteria()[step]
	switch step {
	case byVendor:
		return key + ": " + notIn(f.Vendor, s.Vendors)
	case byDevice:
		return key + ": " + notIn(f.Product, s.Devices)
	case byDriver:
		return key + ": " + notIn(f.Driver, s.Drivers)
	case byAddress:
		return key + ": " + notIn(f.PCI, s.PCIAddresses)
	case byACPIIndex:
		return key + ": " + notIn(f.ACPIIndex, s.ACPIIndexes)
	case byPFName:
		return key + ": " + notOf(f, f.PF.Name, s.PFNames)
	case byRootDevice:
		return key + ": " + notOf(f, f.PF.PCI, s.RootDevices)
	case byLinkType:
		return key + ": " + notIn(f.LinkType, s.LinkTypes)
	default:
		return key + ": it has no RDMA device on the node"
	}
}

func notIn(value string, list []string) string {
	if value == "" {
		return "it has none, want one of " + brief(list)
	}
	return value + " is not in " + brief(list)
}

func notOf(f *sriov.Function, pf string, ranges []PFRange) string {
	list := make([]string, 0, len(ranges))
	for _, r := range ranges {
		list = append(list, r.String())
	}
	switch {
	case f.Index < 0:
		return "it is no VF, want one of " + brief(list)
	case pf == "":
		return "its PF has no network device, want one of " + brief(list)
	}
	return fmt.Sprintf("VF %d of %s is not in %s", f.Index, pf, brief(list))
}

// brief writes a list, and of a long one the beginning.
func brief(list []string) string {
	const most = 8
	if len(list) <= most {
		return "[" + strings.Join(list, " ") + "]"
	}
	return fmt.Sprintf("[%s and %d more]", strings.Join(list[:most], " "), len(list)-most)
}
