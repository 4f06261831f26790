package sriovtest

import (
	"maps"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// adminKeys are those that the PF is told, in the order of asking.
func adminKeys() []string {
	return []string{"vlan", "mac", "spoofchk", "trust", "link_state", "max_tx_rate", "min_tx_rate", "802.1ad"}
}

// every asks for all that the driver can.
func (b *Bed) every() obj {
	conf := asking("mtu")
	for _, key := range adminKeys() {
		if b.can(key) {
			maps.Copy(conf, asking(key))
		}
	}
	return conf
}

// applied is what the PF holds for a VF that was `a` before.
func applied(a sriov.Admin, conf obj) sriov.Admin {
	set := func(key string, to any) {
		value, ok := conf[key]
		switch field := to.(type) {
		case *int:
			if ok {
				*field = value.(int)
			}
		case *string:
			if ok {
				*field = value.(string)
			}
		}
	}
	set("vlan", &a.VLAN)
	set("vlanQoS", &a.QoS)
	set("vlanProto", &a.Proto)
	set("mac", &a.MAC)
	set("spoofchk", &a.SpoofChk)
	set("trust", &a.Trust)
	set("link_state", &a.LinkState)
	set("max_tx_rate", &a.MaxTxRate)
	set("min_tx_rate", &a.MinTxRate)
	return a
}

func knobCases() []Case {
	cases := []Case{
		{Name: "all keys that the driver has are set and taken back", run: everyKey},
		{Name: "no key at all: the PF is told nothing", run: noKey},
		{Name: "best effort sets what there is and warns of the rest", run: bestEffort},
		{Name: "best effort with 802.1ad", Needs: []string{"vlan"}, run: bestEffortQinQ},
		{Name: "a key that is absent stays as an administrator set it", Needs: []string{"vlan", "trust"}, run: absentKey},
		{Name: "vlan 0 takes an administrator's tag off and DEL brings it back", Needs: []string{"vlan"}, run: vlanZero},
		{Name: "one rate that is set leaves the other", Needs: []string{"max_tx_rate", "min_tx_rate"}, run: oneRate},
		{Name: "mtu is set and set back", run: func(b *Bed) { keyAlone(b, "mtu") }},
	}
	for _, key := range adminKeys() {
		cases = append(cases, Case{Name: key + " alone is set and taken back", Needs: []string{key}, run: func(b *Bed) { keyAlone(b, key) }})
	}
	return cases
}

func everyKey(b *Bed) {
	conf := b.every()
	before, own := b.admin(2), b.link("", b.pf().VFs[2])
	p := b.pod(b.of(2, conf)).add()
	b.expect("the PF holds", b.admin(2), applied(before, conf))
	want := sriov.Link{Name: ifname, MTU: 1400, MAC: own.MAC, Up: true}
	if mac, ok := conf["mac"]; ok {
		want.MAC = mac.(string)
	}
	nic := p.nic()
	b.expect("the pod has", sriov.Link{Name: nic.Name, MTU: nic.MTU, MAC: nic.MAC, Up: nic.Up}, want)
	told := p.result.Interfaces[0]
	b.expect("the result's interface", []any{told.Name, told.Sandbox, told.PciID, told.Mac, told.Mtu},
		[]any{ifname, p.path, b.pf().VFs[2], want.MAC, 1400})
	b.expect("the result's addresses", []string{p.result.IPs[0].Address.String()}, []string{p.address()})
	b.expect("the claim is of", b.claim(2).Holder(), "pod default/pod-"+p.id+" (container "+p.id+", net1)")
	p.do("CHECK")
	p.do("DEL")
}

func noKey(b *Bed) {
	before := b.admin(3)
	p := b.pod(b.of(3, nil)).add()
	b.expect("the PF holds", b.admin(3), before)
	p.do("CHECK")
	p.do("DEL")
	p.do("DEL") // again: there is nothing more
}

func keyAlone(b *Bed, key string) {
	before := b.admin(4)
	p := b.pod(b.of(4, asking(key))).add()
	b.expect("the PF holds", b.admin(4), applied(before, asking(key)))
	if mtu, ok := asking(key)["mtu"]; ok {
		b.expect("the pod has an MTU of", p.nic().MTU, mtu)
	}
	p.do("CHECK")
	p.do("DEL")
}

func bestEffort(b *Bed) {
	conf := obj{"unsupported": "best-effort"}
	can := obj{}
	for _, key := range adminKeys() {
		if key == "min_tx_rate" && !b.can(key) && b.can("max_tx_rate") {
			continue // the driver has the knob, and refuses the value
		}
		if key == "802.1ad" && !b.can(key) && b.can("vlan") {
			continue // would take the plain tag's place
		}
		maps.Copy(conf, asking(key))
		if b.can(key) {
			maps.Copy(can, asking(key))
		}
	}
	before := b.admin(1)
	p := b.pod(b.of(1, conf)).add()
	after := b.admin(1)
	want := applied(before, can)
	if !b.can("mac") && after.MAC != before.MAC {
		want.MAC = after.MAC // the VF set it by itself, and the PF shows that
	}
	b.expect("the PF holds", after, want)
	for _, key := range adminKeys() {
		if _, asked := conf[key]; asked && !b.can(key) {
			b.has(b.warned.String(), "WARN", "driver "+b.Driver+" cannot set ", key)
		}
	}
	p.do("CHECK")
	p.do("DEL")
}

// bestEffortQinQ: a plain tag is not what was asked for, and not put in its
// place.
func bestEffortQinQ(b *Bed) {
	conf, before := asking("802.1ad"), b.admin(1)
	conf["unsupported"] = "best-effort"
	p := b.pod(b.of(1, conf)).add()
	if b.can("802.1ad") {
		b.expect("the PF holds", b.admin(1), applied(before, conf))
	} else {
		b.expect("the PF holds", b.admin(1), before)
		b.has(b.warned.String(), "WARN", "driver "+b.Driver+" cannot set vlan to 100, qos 0, 802.1ad")
	}
	p.do("CHECK")
	p.do("DEL")
}

func absentKey(b *Bed) {
	b.tell(5, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN, a.QoS = 7, 1 })
	before := b.admin(5)
	p := b.pod(b.of(5, asking("trust"))).add()
	b.expect("the PF holds", b.admin(5), applied(before, asking("trust")))
	p.do("DEL")
	b.expect("the PF holds again", b.admin(5), before)
	b.tell(5, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN, a.QoS = 0, 0 })
}

func vlanZero(b *Bed) {
	b.tell(0, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN, a.QoS = 7, 1 })
	before := b.admin(0)
	p := b.pod(b.of(0, obj{"vlan": 0})).add()
	b.expect("the tag in the pod", b.admin(0).VLAN, 0)
	p.do("CHECK")
	p.do("DEL")
	b.expect("the PF holds again", b.admin(0), before)
	b.tell(0, sriov.KnobVLAN, func(a *sriov.Admin) { a.VLAN, a.QoS = 0, 0 })
}

func oneRate(b *Bed) {
	b.tell(0, sriov.KnobRate, func(a *sriov.Admin) { a.MinTxRate = 10 })
	p := b.pod(b.of(0, obj{"max_tx_rate": 500})).add()
	b.expect("the rates", []int{b.admin(0).MinTxRate, b.admin(0).MaxTxRate}, []int{10, 500})
	p.do("DEL")
	b.expect("the rates again", []int{b.admin(0).MinTxRate, b.admin(0).MaxTxRate}, []int{10, 0})
	b.tell(0, sriov.KnobRate, func(a *sriov.Admin) { a.MinTxRate = 0 })
}
