package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
)

// Two VFs of one IOMMU group, as on a machine without ACS, go to one container
// or one of them to none.
func TestSharedGroup(t *testing.T) {
	b := newBed(t)
	all := b.tree.VFs(b.tree.Add(xxv710(3)))
	for _, vf := range all {
		b.tree.Bind(vf, cards.VFIO)
	}
	groups := make([]string, len(all))
	for i, vf := range all {
		link := filepath.Join(b.tree.Dir(), "bus/pci/devices", vf, "iommu_group")
		if i == 1 { // the second is in the first one's
			real, err := filepath.EvalSymlinks(filepath.Dir(link))
			must(t, err)
			must(t, os.Remove(link))
			must(t, os.Symlink("../../../../kernel/iommu_groups/"+groups[0], filepath.Join(real, "iommu_group")))
		}
		target, err := os.Readlink(link)
		must(t, err)
		groups[i] = filepath.Base(target)
	}
	b.devices("/dev/vfio/vfio", "/dev/vfio/"+groups[0], "/dev/vfio/"+groups[2])
	b.configure(fastAll)
	b.run()
	b.require(fast, all, nil)
	ids, _, err := b.kubelet.Allocate(fast, 1)
	must(t, err)
	if ids[0] != all[0] {
		t.Fatalf("kubelet chose %s", ids)
	}
	if ids, _, err = b.kubelet.Allocate(fast, 1); err == nil || !strings.Contains(err.Error(), all[1]+" shares IOMMU group "+groups[0]+" with "+all[0]) {
		t.Errorf("%s, %v", ids, err)
	}
	b.hold(map[string]string{all[0]: "shop/web"})
	b.looked()
	b.require(fast, []string{all[0], all[2]}, all[1:2])
	b.requireReason(fast, all[1], "shares IOMMU group "+groups[0])
	b.hold(map[string]string{all[0]: "shop/web", all[1]: "shop/web"}) // one pod has both: neither is in the way
	b.looked()
	b.require(fast, all, nil)
}
