package sriovtest

import (
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// driverCases are about the kernel itself, without the plugin: on these
// things the plugin relies, and model and machine must agree.
func driverCases() []Case {
	return []Case{
		{Name: "kernel: a move to a taken name moves, and does not rename", run: moveToTaken},
		{Name: "kernel: a move with an MTU that is refused moves, and does not rename", run: moveWithMTU},
		{Name: "kernel: a device that is up moves, and is down then", run: moveUp},
		{Name: "kernel: a VF comes home by itself under the pod's name", run: comesByItself},
		{Name: "kernel: sysfs shows no device that is in a pod", run: hiddenInPod},
		{Name: "kernel: a device is found by an alternative name too", run: byAltName},
		{Name: "kernel: no VF of that index", Needs: []string{"vlan"}, run: noSuchVF},
	}
}

// sent moves a VF to a pod and returns what the kernel says.
func (b *Bed) sent(vf int, p *pod, name string, mtu int) error {
	b.t.Helper()
	return b.try(b.name(vf), func(host sriov.Netns, index int) error {
		to, err := b.Kernel.Open(p.path)
		if err != nil {
			return err
		}
		defer to.Close()
		return host.Move(index, to, name, mtu)
	})
}

func moveToTaken(b *Bed) {
	p, name, other := b.pod(nil), b.name(1), b.name(2)
	b.must(b.sent(2, p, ifname, 0))
	b.refusedAs(b.sent(1, p, ifname, 0), unix.EEXIST)
	b.expect("the name in the pod", b.link(p.path, b.pf().VFs[1]).Name, name)
	b.moveBack(p.path, name, name)
	b.moveBack(p.path, ifname, other)
}

func moveWithMTU(b *Bed) {
	p, name := b.pod(nil), b.name(1)
	b.refusedAs(b.sent(1, p, ifname, 20), unix.EINVAL)
	b.expect("the name in the pod", b.link(p.path, b.pf().VFs[1]).Name, name)
	b.moveBack(p.path, name, name)
}

func moveUp(b *Bed) {
	p, name := b.pod(nil), b.name(1)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
	b.must(b.sent(1, p, ifname, 1400))
	l := b.link(p.path, b.pf().VFs[1])
	b.expect("name, MTU, up", []any{l.Name, l.MTU, l.Up}, []any{ifname, 1400, false})
	b.onLink(p.path, ifname, func(ns sriov.Netns, index int) error { return ns.SetMTU(index, 1500) })
	b.moveBack(p.path, ifname, name)
}

func comesByItself(b *Bed) {
	p, q, one, two := b.pod(nil), b.pod(nil), b.name(1), b.name(2)
	b.must(b.sent(1, p, ifname, 0))
	b.must(b.sent(2, q, ifname, 0))
	p.end()
	b.awaitOnNode(1)
	q.end()
	b.awaitOnNode(2)
	b.expect("the first is", b.name(1), ifname)
	b.has(b.name(2), "dev")
	b.onLink("", b.name(1), func(ns sriov.Netns, index int) error { return ns.Rename(index, one) })
	b.onLink("", b.name(2), func(ns sriov.Netns, index int) error { return ns.Rename(index, two) })
}

func hiddenInPod(b *Bed) {
	p, name := b.pod(nil), b.name(1)
	b.must(b.sent(1, p, ifname, 0))
	d, err := b.Sys.VF(b.pf().VFs[1])
	b.must(err)
	b.expect("driver and device", []string{d.Driver, d.Netdev}, []string{b.VF, ""})
	b.moveBack(p.path, ifname, name)
	b.expect("the device", b.name(1), name)
}

func byAltName(b *Bed) {
	name := b.name(1)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.AddAltName(index, "alternative") })
	b.onLink("", "alternative", func(ns sriov.Netns, index int) error {
		b.expect("the index", index, b.link("", b.pf().VFs[1]).Index)
		b.refusedAs(ns.Rename(index, "alternative"), unix.EEXIST)
		return ns.DelAltName(index, "alternative")
	})
}

func noSuchVF(b *Bed) {
	b.refusedAs(b.try(b.pf().Name, func(ns sriov.Netns, pf int) error {
		return ns.SetVF(pf, len(b.pf().VFs), sriov.KnobVLAN, sriov.Admin{VLAN: 5})
	}), unix.EINVAL)
}
