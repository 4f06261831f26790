package sriovtest

import (
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// endCases are about namespaces that end before their DEL.
func endCases() []Case {
	return []Case{
		{Name: "the namespace ended, DEL without one", run: func(b *Bed) {
			p := b.pod(b.of(4, b.every())).add()
			p.end()
			p.late()
		}},
		{Name: "the namespace ended, DEL with its path", run: func(b *Bed) {
			p := b.pod(b.of(4, b.every())).add()
			p.end()
			p.do("DEL")
		}},
		{Name: "the namespace ended and its VF is long home", run: func(b *Bed) {
			p := b.pod(b.of(4, b.every())).add()
			p.end()
			b.awaitOnNode(4)
			p.late()
			p.late()
		}},
		{Name: "the namespace ended, and the node has taken the VF up", run: endedAndUp},
		{Name: "the namespace ended and nobody says DEL: collected", run: collected},
		{Name: "two namespaces ended whose VFs have one name", run: twoEnded},
		{Name: "the namespace ended and another device has the VF's name", run: endedNameTaken},
		{Name: "the next pod takes the VF of one that ended, whose DEL comes late", run: takenOver},
		{Name: "the namespace ended with alternative names on the VF", run: endedAltNames},
	}
}

// awaitOnNode waits for a VF's network device.
func (b *Bed) awaitOnNode(vf int) {
	b.t.Helper()
	pci := b.pf().VFs[vf]
	b.eventually("the VF on the node", func() error {
		d, err := b.Sys.VF(pci)
		if err == nil && d.Netdev == "" {
			err = sriov.ErrNoLink
		}
		return err
	})
}

// endedAndUp: as NetworkManager does with what it finds.
func endedAndUp(b *Bed) {
	p := b.pod(b.of(4, b.every())).add()
	p.end()
	b.awaitOnNode(4)
	b.onLink("", b.name(4), func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
	p.late()
}

func collected(b *Bed) {
	living := b.pod(b.of(1, b.every())).add()
	p := b.pod(b.of(4, obj{"mtu": 1300})).add()
	p.end()
	b.must(b.plugin.Collect(b.t.Context(), b.in("state")))
	if b.claim(4) != nil {
		b.t.Error("the VF is still claimed")
	}
	living.do("CHECK")
	living.do("DEL")
	p.late()
}

// twoEnded: the second comes as devN.
func twoEnded(b *Bed) {
	p, q := b.pod(b.of(4, b.every())).add(), b.pod(b.of(5, nil)).add()
	p.end()
	b.awaitOnNode(4)
	q.end()
	b.awaitOnNode(5)
	q.late()
	p.late()
}

func endedNameTaken(b *Bed) {
	name, other := b.name(1), b.name(2)
	p := b.pod(b.of(1, nil)).add()
	b.onLink("", other, func(ns sriov.Netns, index int) error { return rename(ns, index, name) })
	p.end()
	p.late()
	got := b.name(1)
	if got == name || got == ifname {
		b.t.Errorf("the VF came home as %q", got)
	}
	b.onLink("", name, func(ns sriov.Netns, index int) error { return rename(ns, index, other) })
	b.onLink("", got, func(ns sriov.Netns, index int) error { return rename(ns, index, name) })
}

func takenOver(b *Bed) {
	p := b.pod(b.of(4, b.every())).add()
	p.end()
	q := b.pod(b.of(4, asking("mtu"))).add()
	held, nic := b.admin(4), q.nic()
	p.late()
	b.expect("the PF holds", b.admin(4), held)
	b.expect("the next pod has", q.nic(), nic)
	q.do("CHECK")
	q.do("DEL")
}

func endedAltNames(b *Bed) {
	name := b.name(1)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.AddAltName(index, "enp1s0f0v1") })
	before := b.look()
	p := b.pod(b.of(1, nil)).add()
	p.inPod(func(ns sriov.Netns, index int) error { return ns.AddAltName(index, name) })
	p.end()
	p.late()
	b.same(before)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.DelAltName(index, "enp1s0f0v1") })
}
