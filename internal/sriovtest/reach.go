package sriovtest

import (
	"errors"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// pf returns the PF, on the node.
func (b *Bed) pf() *sriov.PF {
	b.t.Helper()
	pf, err := b.Sys.PF(b.PFPCI)
	b.must(err)
	return pf
}

// name is the name of a VF's network device on the node.
func (b *Bed) name(vf int) string {
	b.t.Helper()
	d, err := b.Sys.VF(b.pf().VFs[vf])
	b.must(err)
	if d.Netdev == "" {
		b.t.Fatalf("VF %d has no network device on the node", vf)
	}
	return d.Netdev
}

// within does something in a namespace, "" = the node's.
func (b *Bed) within(path string, do func(sriov.Netns) error) {
	b.t.Helper()
	ns, err := b.Kernel.Open(path)
	b.must(err)
	defer ns.Close()
	b.must(do(ns))
}

// onLink does something to a device of a namespace.
func (b *Bed) onLink(path, name string, do func(ns sriov.Netns, index int) error) {
	b.t.Helper()
	b.within(path, func(ns sriov.Netns) error {
		l, err := ns.LinkByName(name)
		if err != nil {
			return err
		}
		return do(ns, l.Index)
	})
}

// link is the network device of a PCI function, in a namespace.
func (b *Bed) link(path, pci string) sriov.Link {
	b.t.Helper()
	var found sriov.Link
	b.within(path, func(ns sriov.Netns) error {
		links, err := ns.Links()
		for _, l := range links {
			if l.PCI == pci {
				found = l
			}
		}
		return err
	})
	if found.Index == 0 {
		b.t.Fatalf("%s is not in %q", pci, path)
	}
	return found
}

// uplink is the PF's network device on the node.
func (b *Bed) uplink() sriov.Link {
	b.t.Helper()
	var l sriov.Link
	b.within("", func(host sriov.Netns) (err error) {
		l, err = host.LinkByName(b.pf().Name)
		return err
	})
	return l
}

// pfUp takes the PF up and waits for its link.
func (b *Bed) pfUp() {
	b.t.Helper()
	b.onLink("", b.pf().Name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
	b.eventually("the PF's link", func() error {
		if !b.uplink().Carrier {
			return errors.New("is down")
		}
		return nil
	})
}

// admin is what the PF says of a VF.
func (b *Bed) admin(vf int) sriov.Admin {
	b.t.Helper()
	var out sriov.Admin
	b.onLink("", b.pf().Name, func(ns sriov.Netns, pf int) error {
		vfs, err := ns.VFs(pf)
		for i := range vfs {
			if vfs[i].Index == vf {
				out = vfs[i].Admin
			}
		}
		return err
	})
	return out
}

// tell sets what the PF holds for a VF, as an administrator does, until it
// shows.
func (b *Bed) tell(vf int, k sriov.Knob, change func(*sriov.Admin)) {
	b.t.Helper()
	want := b.admin(vf)
	change(&want)
	b.eventually("tell the PF "+string(k), func() error {
		var err error
		b.onLink("", b.pf().Name, func(ns sriov.Netns, pf int) error {
			err = ns.SetVF(pf, vf, k, want)
			return nil
		})
		if now := b.admin(vf); err == nil && now != want {
			err = fmt.Errorf("it is %+v, not %+v", now, want)
		}
		return err
	})
}
