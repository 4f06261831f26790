package sriovtest

import (
	"net/netip"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func checkCases() []Case {
	cases := []Case{
		{Name: "CHECK names each thing that differs in the pod", run: checkPod},
		{Name: "CHECK names all that differs at once", Needs: []string{"vlan"}, run: checkAll},
		{Name: "CHECK of a VF that is not in the pod any more", run: checkAway},
		{Name: "CHECK without an ADD", run: checkNothing},
	}
	for _, c := range []struct {
		key    string
		knob   sriov.Knob
		change func(*sriov.Admin)
	}{
		{"vlan", sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN = 101 }},
		{"vlan", sriov.KnobVLAN, func(a *sriov.Admin) { a.QoS = 5 }},
		{"802.1ad", sriov.KnobVLAN, func(a *sriov.Admin) { a.Proto = "802.1q" }},
		{"mac", sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:0c:0c" }},
		{"spoofchk", sriov.KnobSpoofChk, func(a *sriov.Admin) { a.SpoofChk = "on" }},
		{"trust", sriov.KnobTrust, func(a *sriov.Admin) { a.Trust = "off" }},
		{"link_state", sriov.KnobLinkState, func(a *sriov.Admin) { a.LinkState = "disable" }},
		{"max_tx_rate", sriov.KnobRate, func(a *sriov.Admin) { a.MaxTxRate = 199 }},
		{"min_tx_rate", sriov.KnobRate, func(a *sriov.Admin) { a.MinTxRate = 99 }},
	} {
		cases = append(cases, Case{
			Name: "CHECK names " + c.key + " that differs in the PF", Needs: []string{c.key},
			run: func(b *Bed) { checkKnob(b, c.key, c.knob, c.change) },
		})
	}
	return cases
}

func checkKnob(b *Bed, key string, k sriov.Knob, change func(*sriov.Admin)) {
	p := b.pod(b.of(2, asking(key))).add()
	right := b.admin(2)
	b.tell(2, k, change)
	b.says(p.refused("CHECK"), network.Missing, string(k)+" of VF 2 of PF "+b.pf().Name)
	b.tell(2, k, func(a *sriov.Admin) { *a = right })
	p.do("CHECK")
	p.do("DEL")
}

func checkPod(b *Bed) {
	p := b.pod(b.of(1, asking("mtu"))).add()
	address := netip.MustParsePrefix(p.address())
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetMTU(index, 1280) })
	b.says(p.refused("CHECK"), network.Missing, "the MTU of VF 1", "1280", "1400")
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetMTU(index, 1400) })
	p.do("CHECK")
	p.result.IPs[0].Address.IP[len(p.result.IPs[0].Address.IP)-1]++
	b.says(p.refused("CHECK"), network.Missing, "lacks the address")
	p.result.IPs[0].Address.IP[len(p.result.IPs[0].Address.IP)-1]--
	p.do("CHECK")
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetUp(index, false) })
	b.says(p.refused("CHECK"), network.Missing, "up of VF 1")
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
	p.do("CHECK")
	p.inPod(func(ns sriov.Netns, index int) error {
		if err := ns.SetUp(index, false); err != nil {
			return err
		}
		return ns.Rename(index, "mine")
	})
	b.says(p.refused("CHECK"), network.Missing, "the name of VF 1", "mine", ifname)
	b.within(p.path, func(ns sriov.Netns) error {
		has, err := ns.Addresses(p.nic().Index)
		if len(has) == 0 || has[0] != address {
			b.t.Errorf("the pod's addresses are %v, want %s", has, address)
		}
		return err
	})
	p.do("DEL")
}

func checkAll(b *Bed) {
	p := b.pod(b.of(1, b.every())).add()
	b.tell(1, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN = 101 })
	p.inPod(func(ns sriov.Netns, index int) error { return ns.SetMTU(index, 1280) })
	b.says(p.refused("CHECK"), network.Missing, "the MTU of VF 1", "vlan of VF 1")
	p.do("DEL")
}

func checkAway(b *Bed) {
	p := b.pod(b.of(1, nil)).add()
	other := b.pod(nil)
	p.inPod(func(ns sriov.Netns, index int) error {
		to, err := b.Kernel.Open(other.path)
		if err != nil {
			return err
		}
		defer to.Close()
		return ns.Move(index, to, "away", 0)
	})
	b.says(p.refused("CHECK"), network.Missing, "VF 1 of PF "+b.pf().Name, "is not in the pod's namespace "+p.path)
	other.end() // so it comes home
	p.do("DEL")
}

func checkNothing(b *Bed) {
	p := b.pod(b.of(1, nil))
	b.says(p.refused("CHECK"), network.Missing, "no record of a VF for container "+p.id)
}
