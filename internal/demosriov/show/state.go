package show

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// state writes down all that pods could leave behind.
func (s *show) state() (string, error) {
	namespaces := map[string]string{"node": s.node.Path()}
	for _, p := range s.pods() {
		namespaces[p.name] = p.Path()
	}
	snapshot, err := nettest.Snapshot(nettest.SnapshotOptions{
		Namespaces: namespaces,
		Dirs:       []nettest.SnapshotDir{{Path: "/etc/cni", Files: nettest.FileHash}, {Path: "/var/lib/cni"}},
	})
	if err != nil {
		return "", err
	}
	cards, err := s.cards()
	return snapshot + cards, err
}

// cards describes the PFs, what they hold for their VFs, and the network
// devices of both.
func (s *show) cards() (string, error) {
	host, err := sriov.Linux{Sys: sys}.Open("")
	if err != nil {
		return "", err
	}
	defer host.Close()
	var out strings.Builder
	pcis := map[string]bool{}
	for _, pf := range s.pfs {
		link, linkErr := host.LinkByName(pf.Name)
		if linkErr != nil {
			return "", linkErr
		}
		vfs, vfErr := host.VFs(link.Index)
		if vfErr != nil {
			return "", vfErr
		}
		for _, vf := range vfs {
			fmt.Fprintf(&out, "PF %s holds for VF %d %+v\n", pf.Name, vf.Index, vf.Admin)
		}
		for _, pci := range append(slices.Clone(pf.VFs), pf.PCI) {
			pcis[pci] = true
		}
	}
	links, err := host.Links()
	if err != nil {
		return "", err
	}
	for i := range links {
		if l := &links[i]; pcis[l.PCI] {
			slices.Sort(l.AltNames)
			fmt.Fprintf(&out, "%s is link %s %v %s mtu %d up %t\n", l.PCI, l.Name, l.AltNames, l.MAC, l.MTU, l.Up)
		}
	}
	return out.String(), nil
}
