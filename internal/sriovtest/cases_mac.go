package sriovtest

import (
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func macCases() []Case {
	mac := []string{"mac"}
	return []Case{
		{Name: "one VF and pod after pod, each with an address of its own", Needs: mac, run: manyMACs},
		{Name: "an address that the PF fixed before the VF has it", Needs: mac, run: fixedBefore},
		{Name: "no address asked for, and the PF fixed one before the VF has it", Needs: mac, run: fixedBeforePlain},
		{Name: "an untrusted pod cannot change the address that it was given", Needs: mac, run: pinned},
		{Name: "an address that another pod has", Needs: mac, run: takenByPod},
		{Name: "an address that the PF holds for another VF", Needs: mac, run: takenByVF},
		{Name: "an address that another VF gets back when its pod ends", Needs: mac, run: givenBackLater},
		{Name: "the PF's own address", run: takenByPF},
		{Name: "the address of a pod that ended is free with its DEL", Needs: mac, run: takenByEnded},
		{Name: "a trusted pod changed its address by itself", Needs: []string{"mac", "trust"}, run: changedInPod},
	}
}

func withMAC(mac string) obj { return obj{"mac": mac} }

func manyMACs(b *Bed) {
	for _, mac := range []string{"02:00:00:00:02:01", "02:00:00:00:02:02", "", "02:00:00:00:02:03"} {
		before := b.look()
		conf := obj{}
		if mac != "" {
			conf = withMAC(mac)
		}
		p := b.pod(b.of(6, conf)).add()
		if mac != "" {
			b.expect("the pod has", p.nic().MAC, mac)
			b.expect("the PF holds", b.admin(6).MAC, mac)
		}
		p.do("CHECK")
		p.do("DEL")
		b.same(before)
	}
}

// fixedBefore: the administrator fixed an address that has not come to the VF,
// and an untrusted VF may not take another now.
func fixedBefore(b *Bed) {
	own, was := b.link("", b.pf().VFs[5]), b.admin(5)
	b.tell(5, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:03:01" })
	p := b.pod(b.of(5, withMAC("02:00:00:00:03:02"))).add()
	b.expect("the pod has", p.nic().MAC, "02:00:00:00:03:02")
	p.do("CHECK")
	p.do("DEL")
	b.expect("the PF holds again", b.admin(5).MAC, "02:00:00:00:03:01")
	b.ownAgain(5, own.MAC, was.MAC)
}

// fixedBeforePlain is the same for a pod that asks for no address: its VF's
// going up and down brings the one that the PF fixed.
func fixedBeforePlain(b *Bed) {
	own, was := b.link("", b.pf().VFs[5]), b.admin(5)
	b.tell(5, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:03:03" })
	p := b.pod(b.of(5, nil)).add()
	p.do("CHECK")
	p.do("DEL")
	b.expect("the PF holds again", b.admin(5).MAC, "02:00:00:00:03:03")
	b.ownAgain(5, own.MAC, was.MAC)
}

// ownAgain takes an administrator's address off a VF.
func (b *Bed) ownAgain(vf int, own, held string) {
	b.t.Helper()
	b.tell(vf, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = zeroMAC })
	b.eventually("the VF's own address", func() error {
		return b.try(b.name(vf), func(ns sriov.Netns, index int) error { return ns.SetMAC(index, own) })
	})
	if b.admin(vf).MAC != held {
		b.tell(vf, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = held })
	}
}

// try does something that may fail to a device on the node.
func (b *Bed) try(name string, do func(ns sriov.Netns, index int) error) error {
	var failed error
	b.onLink("", name, func(ns sriov.Netns, index int) error {
		failed = do(ns, index)
		return nil
	})
	return failed
}

func takenByPod(b *Bed) {
	p := b.pod(b.of(1, withMAC("02:00:00:00:04:01"))).add()
	q := b.pod(b.of(2, withMAC("02:00:00:00:04:01")))
	b.says(q.refused("ADD"), network.Invalid, "mac 02:00:00:00:04:01", "VF 1 of PF "+b.pf().Name, "pod default/pod-"+p.id)
	q.do("DEL")
	p.do("CHECK")
	p.do("DEL")
}

func takenByVF(b *Bed) {
	own, was := b.link("", b.pf().VFs[3]), b.admin(3)
	b.tell(3, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:05:01" })
	q := b.pod(b.of(2, withMAC("02:00:00:00:05:01")))
	b.says(q.refused("ADD"), network.Invalid, "mac 02:00:00:00:05:01", "VF 3 of PF "+b.pf().Name+" has it already")
	q.do("DEL")
	b.ownAgain(3, own.MAC, was.MAC)
}

func givenBackLater(b *Bed) {
	own, was := b.link("", b.pf().VFs[3]), b.admin(3)
	b.tell(3, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:0a:01" })
	p := b.pod(b.of(3, withMAC("02:00:00:00:0a:02"))).add()
	q := b.pod(b.of(2, withMAC("02:00:00:00:0a:01")))
	b.says(q.refused("ADD"), network.Invalid, "mac 02:00:00:00:0a:01", "VF 3 of PF "+b.pf().Name, "pod default/pod-"+p.id)
	q.do("DEL")
	p.do("DEL")
	b.ownAgain(3, own.MAC, was.MAC)
}

func takenByPF(b *Bed) {
	own := b.uplink().MAC
	q := b.pod(b.of(2, withMAC(own)))
	b.says(q.refused("ADD"), network.Invalid, "mac "+own, "is PF "+b.pf().Name+"'s own")
	q.do("DEL")
}

func takenByEnded(b *Bed) {
	p := b.pod(b.of(1, withMAC("02:00:00:00:06:01"))).add()
	p.end()
	q := b.pod(b.of(2, withMAC("02:00:00:00:06:01")))
	err := q.refused("ADD")
	b.says(err, network.Again, "pod default/pod-"+p.id)
	if errors.Is(err, network.Invalid) {
		b.t.Errorf("%v: it says that it will never do", err)
	}
	p.late()
	q.add()
	q.do("CHECK")
	q.do("DEL")
}

func changedInPod(b *Bed) {
	p := b.pod(b.of(1, obj{"mac": "02:00:00:00:07:01", "trust": "on"})).add()
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetMAC(index, "02:00:00:00:07:02") })
	b.expect("the pod has", p.nic().MAC, "02:00:00:00:07:02")
	b.says(p.refused("CHECK"), network.Missing, "the address of VF 1", "02:00:00:00:07:01", "02:00:00:00:07:02")
	p.do("DEL")
}

// pinned: the PF fixed the address, so that a driver that guards it does.
func pinned(b *Bed) {
	p := b.pod(b.of(1, obj{"mac": "02:00:00:00:09:01", "trust": "off"})).add()
	var err error
	p.inPod(func(ns sriov.Netns, index int) error {
		err = ns.SetMAC(index, "02:00:00:00:09:02")
		return nil
	})
	if err == nil && b.Guards {
		b.t.Error("the pod changed its address")
	}
	p.do("DEL")
}
