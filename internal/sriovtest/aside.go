package sriovtest

import (
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// moveAway moves a device of the node aside, to a namespace, as "aside".
func (b *Bed) moveAway(name, path string) {
	b.t.Helper()
	b.onLink("", name, func(host sriov.Netns, index int) error {
		to, err := b.Kernel.Open(path)
		if err != nil {
			return err
		}
		defer to.Close()
		return host.Move(index, to, "aside", 0)
	})
}

// moveBack moves a device to the node under a name.
func (b *Bed) moveBack(path, as, name string) {
	b.t.Helper()
	b.onLink(path, as, func(ns sriov.Netns, index int) error {
		host, err := b.Kernel.Open("")
		if err != nil {
			return err
		}
		defer host.Close()
		return ns.Move(index, host, name, 0)
	})
}
