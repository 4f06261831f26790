package sriovtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// look describes all that a pod could leave behind: the PF, what it holds, the
// VFs' devices on the node, claims and addresses.
func (b *Bed) look() string {
	b.t.Helper()
	var out strings.Builder
	pf := b.pf()
	b.within("", func(host sriov.Netns) error {
		uplink, err := host.LinkByName(pf.Name)
		if errors.Is(err, sriov.ErrNoLink) {
			fmt.Fprintln(&out, "the PF is away")
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "PF %s %s mtu %d up %t %v\n", pf.PCI, pf.Name, uplink.MTU, uplink.Up, uplink.AltNames)
		vfs, err := host.VFs(uplink.Index)
		for i := range vfs {
			fmt.Fprintf(&out, "VF %d %+v\n", vfs[i].Index, vfs[i].Admin)
		}
		links, linkErr := host.Links()
		for _, pci := range pf.VFs {
			driver, readErr := os.Readlink(filepath.Join(string(b.Sys), "bus", "pci", "devices", pci, "driver"))
			fmt.Fprintf(&out, "%s driver %s %v\n", pci, filepath.Base(driver), readErr)
			for i := range links {
				if l := &links[i]; l.PCI == pci {
					slices.Sort(l.AltNames)
					fmt.Fprintf(&out, "%s is %s %v %s mtu %d up %t\n", pci, l.Name, l.AltNames, l.MAC, l.MTU, l.Up)
				}
			}
		}
		return errors.Join(err, linkErr)
	})
	claims, err := filepath.Glob(b.in("state/vf/*.json"))
	b.must(err)
	fmt.Fprintf(&out, "claims %v\n", claims)
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(&out, "leased %v\n", b.leased)
	return out.String()
}

// same fails unless the node looks as before, or does in a moment.
func (b *Bed) same(before string) {
	b.t.Helper()
	for end := time.Now().Add(patience); b.look() != before && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if diff := cmp.Diff(before, b.look()); diff != "" {
		b.t.Errorf("something is left (-before +after):\n%s", diff)
	}
}
