package deviceplugin

import (
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// groupOf is the IOMMU group that a function goes to a pod with, "" = it goes
// alone. vfio gives a group to one process, with all that is in it.
func groupOf(f *sriov.Function) string {
	if f == nil || f.Driver != "vfio-pci" {
		return ""
	}
	return f.IOMMUGroup
}

// block keeps functions back whose group a pod has by another one.
func (s *sight) block() {
	taken := map[string]string{}
	for pci, f := range s.functions {
		if group := groupOf(f); group != "" && s.taken(pci) {
			taken[group] = pci
		}
	}
	for i := range s.choices {
		c := &s.choices[i]
		if mate := taken[groupOf(&c.Function)]; mate != "" && !s.taken(c.PCI) {
			s.blocked[c.PCI] = "shares IOMMU group " + c.IOMMUGroup + " with " + mate + ", which a pod has"
		}
	}
}

// apart refuses devices whose group kubelet has just given to another
// container. The caller holds mu.
func (m *Manager) apart(i *item, ids []string) error {
	group := groupOf(i.function)
	if group == "" {
		return nil
	}
	for pci := range m.recent {
		if other := m.items[pci]; other != nil && groupOf(other.function) == group && !slices.Contains(ids, pci) {
			return network.Again.Errorf("device %s shares IOMMU group %s with %s, which another container has: "+
				"vfio gives a group to one process; delete the pod so that it gets another device", i.PCI, group, pci)
		}
	}
	return nil
}
