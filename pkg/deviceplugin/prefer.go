package deviceplugin

import (
	"cmp"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// place is where a device is, as far as a preference goes.
type place struct {
	id   string // PCI address
	pf   string // PCI address
	numa int
	root string // PCIe root
}

// groupBy tells which of two devices are near each other.
type groupBy func(place) any

func byPF(p place) any   { return p.pf }
func byNUMA(p place) any { return p.numa }
func byRoot(p place) any { return p.root }

// prefer chooses `size` of the available devices, with all that must be among
// them, in PCI order.
func prefer(policy resource.Policy, available, must []place, size int) []string {
	available, must = inOrder(available), inOrder(must)
	free := slices.DeleteFunc(slices.Clone(available), func(p place) bool { return slices.Contains(must, p) })
	need := min(size-len(must), len(free))
	chosen := must
	switch {
	case need <= 0:
		chosen = must[:min(len(must), max(size, 0))]
	case policy == resource.Spread:
		chosen = spread(free, must, need)
	case policy == resource.Near:
		chosen = append(chosen, pack(free, must, need, []groupBy{byNUMA, byRoot, byPF})...)
	default:
		chosen = append(chosen, pack(free, must, need, []groupBy{byPF})...)
	}
	ids := []string{}
	for _, p := range inOrder(chosen) {
		ids = append(ids, p.id)
	}
	return ids
}

// inOrder sorts a copy, and drops what is in it twice.
func inOrder(list []place) []place {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b place) int { return sriov.ComparePCI(a.id, b.id) })
	return slices.CompactFunc(list, func(a, b place) bool { return a.id == b.id })
}

// group are the devices of one PF, NUMA node or root.
type group struct {
	key  any
	free []place
	must int // devices of it that are taken anyway
	near int // devices that are taken anyway on its NUMA node
}

func groups(free, must []place, by groupBy) []group {
	var all []group
	for _, p := range free {
		at := slices.IndexFunc(all, func(g group) bool { return g.key == by(p) })
		if at < 0 {
			at = len(all)
			all = append(all, group{key: by(p)})
			for _, m := range must {
				if by(m) == by(p) {
					all[at].must++
				}
				if m.numa == p.numa {
					all[at].near++
				}
			}
		}
		all[at].free = append(all[at].free, p)
	}
	return all
}

// pack takes devices from as few groups as can be, and within each group from
// as few of the next finer ones. Groups that are in use anyway come first,
// then the one that just fits, then the largest.
func pack(free, must []place, need int, levels []groupBy) []place {
	if len(levels) == 0 {
		return free[:min(need, len(free))]
	}
	var chosen []place
	rest := groups(free, must, levels[0])
	for need > 0 && len(rest) > 0 {
		best := slices.IndexFunc(rest, func(g group) bool {
			return !slices.ContainsFunc(rest, func(other group) bool { return better(&other, &g, need) < 0 })
		})
		g := rest[best]
		rest = slices.Delete(rest, best, best+1)
		take := min(need, len(g.free))
		chosen = append(chosen, pack(g.free, must, take, levels[1:])...)
		need -= take
	}
	return chosen
}

// better compares two groups as the next to take from: negative = a.
func better(a, b *group, need int) int {
	fitsA, fitsB := len(a.free) >= need, len(b.free) >= need
	bySize := cmp.Compare(len(b.free), len(a.free)) // the largest
	if fitsA && fitsB {
		bySize = -bySize // the one that just fits
	}
	return cmp.Or(yes(b.must > 0)-yes(a.must > 0), yes(fitsB)-yes(fitsA), cmp.Compare(b.near, a.near), bySize)
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// spread takes each device from the PF that has given the fewest; among equal
// ones from a NUMA node that has given already, then from the PF with most left.
func spread(free, must []place, need int) []place {
	chosen := slices.Clone(must)
	free = slices.Clone(free)
	for range need {
		best := slices.MinFunc(groups(free, chosen, byPF), func(a, b group) int {
			return cmp.Or(cmp.Compare(a.must, b.must), yes(b.near > 0)-yes(a.near > 0), cmp.Compare(len(b.free), len(a.free)))
		})
		chosen = append(chosen, best.free[0])
		free = slices.DeleteFunc(free, func(p place) bool { return p.id == best.free[0].id })
	}
	return chosen
}
