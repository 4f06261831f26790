package sriovtest

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// homeCases are about DEL with the pod's namespace still there.
func homeCases() []Case {
	return []Case{
		{Name: "the pod renamed its VF and changed its MTU", run: renamedInPod},
		{Name: "the pod gave its VF the node's name as an alternative", run: altNameInPod},
		{Name: "alternative names of the node, one of them the pod's name", run: altNamesOfNode},
		{Name: "a VF that is up on the node goes to a pod and is up again after", run: upOnNode},
		{Name: "another device has the VF's name when it comes home", run: nameTaken},
		{Name: "another device has an alternative name of the VF when it comes home", run: altNameTaken},
		{Name: "another device has the pod's name on the node when the VF comes home", run: podNameTaken},
		{Name: "the network device is gone: its driver is bound anew", run: vanished},
		{Name: "the VFs were removed under a pod", Makes: true, run: removed},
		{Name: "a VF that a process drives", Needs: []string{"vlan", "mac", "trust"}, run: userspace},
		{Name: "another boot: nothing is written to the PF", Needs: []string{"vlan"}, run: anotherBoot},
		{Name: "the claim is lost", run: claimLost},
		{Name: "the journal is lost", run: journalLost},
	}
}

// rename renames a device that is taken down for it.
func rename(ns sriov.Netns, index int, name string) error {
	if err := ns.SetUp(index, false); err != nil {
		return err
	}
	return ns.Rename(index, name)
}

func renamedInPod(b *Bed) {
	p := b.pod(b.of(4, b.every())).add()
	p.inPod(func(ns sriov.Netns, index int) error {
		if err := rename(ns, index, "mine"); err != nil {
			return err
		}
		if err := ns.SetMTU(index, 900); err != nil {
			return err
		}
		return ns.AddAltName(index, "also-mine")
	})
	p.do("DEL")
}

func altNameInPod(b *Bed) {
	name := b.name(4)
	p := b.pod(b.of(4, nil)).add()
	p.inPod(func(ns sriov.Netns, index int) error { return ns.AddAltName(index, name) })
	p.do("DEL")
}

func altNamesOfNode(b *Bed) {
	name := b.name(1)
	names := []string{ifname, "enp1s0f0v1"}
	for _, n := range names {
		b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.AddAltName(index, n) })
	}
	before := b.look()
	p := b.pod(b.of(1, nil)).add()
	p.do("CHECK")
	p.do("DEL")
	b.same(before)
	for _, n := range names {
		b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.DelAltName(index, n) })
	}
}

func upOnNode(b *Bed) {
	name := b.name(3)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
	before := b.look()
	p := b.pod(b.of(3, b.every())).add()
	p.do("CHECK")
	p.do("DEL")
	b.same(before)
	b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, false) })
}

// nameTaken: losing a device would be worse than losing its name.
func nameTaken(b *Bed) {
	name, other := b.name(1), b.name(2)
	p := b.pod(b.of(1, b.every())).add()
	b.onLink("", other, func(ns sriov.Netns, index int) error { return rename(ns, index, name) })
	p.do("DEL")
	got := b.name(1)
	if got == name || got == ifname {
		b.t.Errorf("the VF came home as %q", got)
	}
	b.has(b.warned.String(), "has the VF's old name")
	if b.claim(1) != nil {
		b.t.Error("the VF is still claimed")
	}
	b.onLink("", name, func(ns sriov.Netns, index int) error { return rename(ns, index, other) })
	b.onLink("", got, func(ns sriov.Netns, index int) error { return rename(ns, index, name) })
}

// altNameTaken: an alternative name that is another's by now is lost, the VF is
// not.
func altNameTaken(b *Bed) {
	name, other := b.name(1), b.name(2)
	add := func(ns sriov.Netns, index int) error { return ns.AddAltName(index, "enp1s0f0v1") }
	b.onLink("", name, add)
	p := b.pod(b.of(1, nil)).add()
	b.onLink("", other, add)
	p.do("DEL")
	b.expect("the name", b.name(1), name)
	b.onLink("", other, func(ns sriov.Netns, index int) error { return ns.DelAltName(index, "enp1s0f0v1") })
}

func podNameTaken(b *Bed) {
	other := b.name(2)
	p := b.pod(b.of(1, nil)).add()
	b.onLink("", other, func(ns sriov.Netns, index int) error { return rename(ns, index, ifname) })
	p.do("DEL")
	b.onLink("", ifname, func(ns sriov.Netns, index int) error { return rename(ns, index, other) })
}

func vanished(b *Bed) {
	p := b.pod(b.of(3, b.every())).add()
	b.must(b.Bind(b.pf().VFs[3], ""))
	b.says(p.refused("CHECK"), network.Missing, "is not in the pod's namespace")
	p.do("DEL")
	b.has(b.warned.String(), "its driver is bound anew")
}

func removed(b *Bed) {
	p := b.pod(b.of(3, b.every())).add()
	pci := b.pf().VFs[3]
	b.RemoveVFs()
	b.says(p.refused("CHECK"), network.Missing, "device "+pci+" is gone from the node")
	p.do("DEL")
	b.expect("leases", len(b.leased), 0)
	b.MakeVFs()
	if b.claim(3) != nil {
		b.t.Error("a VF that is gone is still claimed")
	}
	q := b.pod(b.of(3, nil)).add()
	q.do("DEL")
}

// userspace: the PF is told, nothing comes to the pod, and DEL finds the VF
// without a network device.
func userspace(b *Bed) {
	pci := b.pf().VFs[5]
	own := b.link("", pci)
	b.must(b.Bind(pci, "vfio-pci"))
	before := b.look()
	conf := obj{"vlan": 42, "mac": "02:00:00:00:08:01", "trust": "on"}
	was := b.admin(5)
	p := b.pod(b.of(5, conf)).add()
	b.expect("the PF holds", b.admin(5), applied(was, conf))
	told := p.result.Interfaces[0]
	b.expect("the result's interface", []string{told.PciID, told.Mac}, []string{pci, "02:00:00:00:08:01"})
	b.expect("the result's addresses", p.result.IPs[0].Address.String(), p.address())
	b.within(p.path, func(ns sriov.Netns) error {
		links, err := ns.Links()
		b.expect("devices in the pod", len(links), 1) // lo
		return err
	})
	p.do("CHECK")
	b.tell(5, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN = 43 })
	b.says(p.refused("CHECK"), network.Missing, "vlan of VF 5")
	p.do("DEL")
	b.same(before)
	b.must(b.Bind(pci, b.VF))
	b.asBefore(5, own)
}

// asBefore gives a VF whose driver was bound anew its name and address back:
// the driver chose others.
func (b *Bed) asBefore(vf int, was sriov.Link) {
	b.t.Helper()
	b.onLink("", b.name(vf), func(ns sriov.Netns, index int) error {
		if err := ns.Rename(index, was.Name); err != nil {
			return err
		}
		if err := ns.SetMAC(index, was.MAC); err != nil && b.link("", b.pf().VFs[vf]).MAC != was.MAC {
			return err
		}
		return nil
	})
}

// anotherBoot: what the PF holds now is that boot's, whoever set it.
func anotherBoot(b *Bed) {
	p := b.pod(b.of(2, asking("vlan"))).add()
	held := b.admin(2)
	b.boots("another boot")
	p.late()
	b.expect("the PF holds", b.admin(2), held)
	b.expect("leases", len(b.leased), 0)
	if b.claim(2) != nil {
		b.t.Error("the VF is still claimed")
	}
	b.boots("this boot")
	p.do("DEL") // by the journal: it is where ADD put it
}

func claimLost(b *Bed) {
	p := b.pod(b.of(4, b.every())).add()
	b.must(unix.Unlink(b.in("state/vf/" + b.pf().VFs[4] + ".json")))
	p.do("DEL")
}

func journalLost(b *Bed) {
	p := b.pod(b.of(4, b.every())).add()
	p.state.raw = []byte("{" + strings.Repeat("x", 9))
	p.do("DEL")
}
