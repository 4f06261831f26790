package sriovtest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// onModel runs a test on a model, in the model's own time.
func onModel(t *testing.T, d Driver, test func(*Bed, *Model)) {
	t.Helper()
	n := NewNamespaces(t)
	t.Run(d.Name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m := NewModel(t, d)
			test(newBed(t, OnModel(t, m, n)), m)
		})
	})
}

// set sets one knob of VF 1 and returns what the kernel says.
func (b *Bed) set(k sriov.Knob, a sriov.Admin) error {
	return b.try(b.pf().Name, func(ns sriov.Netns, pf int) error { return ns.SetVF(pf, 1, k, a) })
}

// What the drivers are there for: each is as odd as it says.
func TestDriversAreOdd(t *testing.T) {
	mac := sriov.Admin{MAC: "02:00:00:00:01:01"}
	onModel(t, IGB(), func(b *Bed, _ *Model) {
		b.must(b.set(sriov.KnobMAC, mac))
		name, own := b.name(1), b.link("", b.pf().VFs[1]).MAC
		up := func(up bool) {
			b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, up) })
		}
		b.refusedAs(b.try(name, func(ns sriov.Netns, index int) error { return ns.SetMAC(index, mac.MAC) }), unix.EADDRNOTAVAIL)
		up(true)
		b.expect("before a reset", b.link("", b.pf().VFs[1]).MAC, own)
		up(false)
		b.expect("after a reset", b.link("", b.pf().VFs[1]).MAC, mac.MAC)
		b.refusedAs(b.set(sriov.KnobLinkState, sriov.Admin{LinkState: "enable"}), unix.EOPNOTSUPP)
		b.refusedAs(b.set(sriov.KnobVLAN, sriov.Admin{VLAN: 1, Proto: "802.1ad"}), unix.EPROTONOSUPPORT)
		b.refusedAs(b.set(sriov.KnobRate, sriov.Admin{MinTxRate: 1}), unix.EINVAL)
	})
	onModel(t, LateOne(), func(b *Bed, _ *Model) {
		b.must(b.set(sriov.KnobMAC, mac))
		b.expect("at once", b.admin(1).MAC, zeroMAC)
		time.Sleep(time.Second)
		b.expect("later", []string{b.admin(1).MAC, b.link("", b.pf().VFs[1]).MAC}, []string{mac.MAC, mac.MAC})
	})
	onModel(t, BusyOne(), func(b *Bed, _ *Model) {
		b.must(b.set(sriov.KnobMAC, mac))
		b.refusedAs(b.set(sriov.KnobTrust, sriov.Admin{Trust: "on"}), unix.EAGAIN)
		b.refusedAs(b.try(b.name(1), func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) }), unix.EBUSY)
		time.Sleep(time.Second)
		b.must(b.set(sriov.KnobTrust, sriov.Admin{Trust: "on"}))
	})
	onModel(t, Capable(), func(b *Bed, _ *Model) {
		b.must(b.set(sriov.KnobMAC, mac))
		b.must(b.set(sriov.KnobVLAN, sriov.Admin{VLAN: 1, Proto: "802.1ad"}))
		name := b.name(1)
		b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
		b.refusedAs(b.try(name, func(ns sriov.Netns, index int) error { return ns.Rename(index, "other") }), unix.EBUSY)
	})
	onModel(t, Switchdev(), func(b *Bed, _ *Model) {
		b.within("", func(ns sriov.Netns) error {
			links, err := ns.Links()
			b.expect("devices of the PF", 8, len(slices.DeleteFunc(links, func(l sriov.Link) bool { return l.PCI != b.PFPCI })))
			return err
		})
		b.expect("the uplink", b.pf().Name, "ens1f0np0")
	})
}

// 256 VFs: what reads all of them with counters sees a part, or nothing. Pods
// come and go, and the inventory is whole.
func TestHundredsOfVFs(t *testing.T) {
	for _, tooBig := range []bool{false, true} {
		d := Hundreds(tooBig)
		d.Name = fmt.Sprintf("hundreds, refused %t", tooBig)
		onModel(t, d, func(b *Bed, _ *Model) {
			b.within("", func(ns sriov.Netns) error {
				vfs, err := ns.Counters(b.uplink().Index)
				if len(vfs) == 256 {
					b.t.Error("the model's answer is whole")
				}
				if tooBig {
					b.refusedAs(err, unix.EMSGSIZE)
					err = nil
				}
				return err
			})
			before := b.look()
			p, q := b.pod(b.of(255, b.every())).add(), b.pod(b.fast(nil)).add()
			p.do("CHECK")
			b.expect("the VF that was picked", q.result.Interfaces[0].PciID, b.pf().VFs[0])
			rows, err := sriov.Inventory{
				Sys: b.Sys, Kernel: b.Kernel, Claims: sriov.NewClaims(b.in("state"), ""), Boot: "this boot",
			}.Rows()
			b.must(err)
			b.expect("rows", len(rows), 256)
			b.expect("the last", []any{rows[255].State, rows[255].VLAN, rows[255].Admin != nil}, []any{sriov.InPod, 100, true})
			p.do("DEL")
			q.do("DEL")
			b.same(before)
		})
	}
}

// More VFs than any answer has room for: a network without keys for the PF
// does not need one. A network with some is refused.
func TestUnreadablePF(t *testing.T) {
	d := Hundreds(true)
	d.Name = "overfull"
	onModel(t, d, func(b *Bed, m *Model) {
		before := b.look()
		m.Overfull = true
		p := b.pod(b.of(200, asking("mtu"))).add()
		b.expect("the pod's MTU", p.nic().MTU, 1400)
		p.do("CHECK")
		p.do("DEL")
		q := b.pod(b.fast(nil)).add()
		q.end()
		q.late()
		r := b.pod(b.of(200, asking("vlan")))
		b.has(r.refused("ADD").Error(), "read the VFs of PF ens1f0", "message too long")
		r.do("DEL")
		m.Overfull = false
		b.same(before)
	})
}

// A VF must not send while its tag is another's: it is down before the tag is
// set, and before it is taken off.
func TestTagsWhileDown(t *testing.T) {
	d := Capable()
	d.TagsWhileDown = true
	onModel(t, d, func(b *Bed, _ *Model) {
		name := b.name(1)
		b.onLink("", name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, true) })
		before := b.look()
		p := b.pod(b.of(1, asking("vlan"))).add()
		b.refusedAs(b.set(sriov.KnobVLAN, sriov.Admin{VLAN: 5}), unix.EBUSY)
		p.do("DEL")
		b.same(before)
	})
}

// The address that was asked for is the pod's after all that the driver does.
func TestAddressAfterReset(t *testing.T) {
	d := Capable()
	d.ForgetsAtUp = true
	onModel(t, d, func(b *Bed, _ *Model) {
		before, own := b.look(), b.link("", b.pf().VFs[1]).MAC
		p := b.pod(b.of(1, asking("mac"))).add()
		b.expect("the pod has", p.nic().MAC, asking("mac")["mac"])
		p.do("CHECK")
		p.do("DEL")
		b.same(before)
		q := b.pod(b.of(1, nil)).add()
		b.expect("the next pod has", q.nic().MAC, own)
		q.do("DEL")
	})
}

// A namespace ends while DEL is at work on what the PF holds, at whatever
// moment: the VF is reset then, and while it is trusted it tells the PF the
// pod's address again.
func TestResetWhileRestored(t *testing.T) {
	for n := range 30 {
		d := IGB()
		d.Name = fmt.Sprintf("igb, home after %d", n)
		d.Busy, d.HomeAfter = 30*time.Millisecond, time.Duration(n)*20*time.Millisecond
		onModel(t, d, func(b *Bed, _ *Model) {
			before := b.look()
			p := b.pod(b.of(1, b.every())).add()
			p.end()
			p.late()
			b.same(before)
		})
	}
}

// A VF that is busy for longer than anybody waits: the error says so, and the
// VF comes home when it can.
func TestBusyForLong(t *testing.T) {
	d := BusyOne()
	d.Busy = 4 * time.Second
	onModel(t, d, func(b *Bed, _ *Model) {
		before := b.look()
		p := b.pod(b.of(1, b.every()))
		b.says(p.refused("ADD"), network.Again, "VF 1 of PF ens1f0", "not within 2s")
		for range 10 {
			if _, err := p.run(p.call("DEL")); err == nil {
				break
			}
			if r := b.claim(1); r == nil || r.Failed == "" {
				b.t.Fatalf("the VF is not in quarantine: %+v", r)
			}
			time.Sleep(d.Busy)
		}
		b.same(before)
	})
}

// A device that no binding brings back: DEL fails and is tried again, until an
// administrator has mended the driver.
func TestDriverIsBroken(t *testing.T) {
	d := Capable()
	d.Probe = time.Minute
	onModel(t, d, func(b *Bed, m *Model) {
		before := b.look()
		p := b.pod(b.of(1, b.every())).add()
		b.must(b.Bind(b.pf().VFs[1], ""))
		b.has(p.refused("DEL").Error(), "its driver capablevf makes no network device for it")
		b.expect("the claim says why", b.claim(1).Failed != "", true)
		p.end()
		b.has(b.pod(b.of(1, nil)).refused("ADD").Error(), "was held by pod default/pod-"+p.id+" (container "+p.id+", net1) and cannot be restored yet")
		m.Probe = time.Second
		p.late()
		b.same(before)
	})
}

// A driver that says nothing of its VFs has no knobs either.
func TestSilentDriver(t *testing.T) {
	d := Mute()
	d.Name, d.Silent = "silent", true
	onModel(t, d, func(b *Bed, _ *Model) {
		before := b.look()
		p := b.pod(b.of(1, asking("mtu"))).add()
		p.do("CHECK")
		p.do("DEL")
		q := b.pod(b.of(1, asking("vlan")))
		b.says(q.refused("ADD"), network.Invalid, "driver silent", "vlan")
		q.do("DEL")
		r := b.pod(b.of(1, obj{"vlan": 100, "unsupported": "best-effort"})).add()
		b.has(b.warned.String(), "driver silent cannot set", "vlan")
		r.do("CHECK")
		r.do("DEL")
		b.same(before)
	})
}
