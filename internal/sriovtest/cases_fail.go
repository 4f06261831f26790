package sriovtest

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// failCases are about calls that fail in the middle.
func failCases() []Case {
	return []Case{
		{Name: "IPAM fails, and DEL undoes the rest", run: ipamFails},
		{Name: "IPAM fails at DEL, and the VF comes home", run: ipamFailsAtDEL},
		{Name: "a value is refused in the middle, and DEL undoes the rest", Needs: []string{"vlan", "max_tx_rate"}, run: valueRefused},
		{Name: "an MTU that the driver refuses", run: mtuRefused},
		{Name: "the pod has an interface of that name", run: podHasName},
		{Name: "ADD again without a DEL between", run: addAgain},
		{Name: "the namespace ended after an ADD that failed", run: failedAndEnded},
		{Name: "a rate while the PF is down", Needs: []string{"max_tx_rate"}, run: rateWhileDown},
		{Name: "DEL fails and is tried again, and nobody gets the VF meanwhile", Needs: []string{"vlan", "pfOnly"}, run: delFails},
		{Name: "ADD that was called off while it waited", run: calledOff},
		{Name: "ADD that was called off in the middle", run: calledOffMidway},
	}
}

func ipamFails(b *Bed) {
	b.broken = errors.New("no address is free")
	p := b.pod(b.of(1, b.every()))
	b.has(p.refused("ADD").Error(), "no address is free")
	if b.claim(1) == nil {
		b.t.Error("ADD touched a VF that it did not claim")
	}
	b.broken = nil
	p.do("DEL")
}

// ipamFailsAtDEL: the VF does not wait for it.
func ipamFailsAtDEL(b *Bed) {
	before := b.look()
	p := b.pod(b.of(1, b.every())).add()
	b.broken = errors.New("the server is away")
	b.has(p.refused("CHECK").Error(), "the server is away")
	b.has(p.refused("DEL").Error(), "give the addresses back", "the server is away")
	b.leased = map[string]string{} // all but the address is as before
	b.same(before)
	b.leased = map[string]string{p.id: p.address()}
	b.broken = nil
	p.do("DEL")
}

func valueRefused(b *Bed) {
	conf := b.every()
	maps.Copy(conf, obj{"max_tx_rate": 900_000_000})
	p := b.pod(b.of(1, conf))
	b.says(p.refused("ADD"), network.Invalid, "driver "+b.Driver, "max_tx_rate", "900000000", "VF 1 of PF "+b.pf().Name)
	p.do("DEL")
}

func mtuRefused(b *Bed) {
	for _, mtu := range []int{9500, 65_000} {
		before := b.look()
		p := b.pod(b.of(1, obj{"mtu": mtu}))
		if b.link("", b.pf().VFs[1]).MaxMTU == 0 { // the driver may take any
			p.add()
		} else {
			b.says(p.refused("ADD"), network.Invalid, "mtu", "driver "+b.VF)
		}
		p.do("DEL")
		b.same(before)
	}
}

func podHasName(b *Bed) {
	other := b.name(2)
	p := b.pod(b.of(1, b.every()))
	b.moveAway(other, p.path)
	b.onLink(p.path, "aside", func(ns sriov.Netns, index int) error { return ns.Rename(index, ifname) })
	b.says(p.refused("ADD"), network.Invalid, `the pod has an interface "net1" already`)
	p.do("DEL")
	b.moveBack(p.path, ifname, other)
}

func addAgain(b *Bed) {
	p := b.pod(b.of(1, b.every())).add()
	p.state.raw = nil // the journal begins anew, and the claim tells
	p.add()
	p.do("CHECK")
	p.do("DEL")
}

func failedAndEnded(b *Bed) {
	b.broken = errors.New("no address is free")
	p := b.pod(b.of(1, b.every()))
	p.refused("ADD")
	b.broken = nil
	p.end()
	p.late()
}

// rateWhileDown: drivers take none, and the message says why.
func rateWhileDown(b *Bed) {
	b.onLink("", b.pf().Name, func(ns sriov.Netns, index int) error { return ns.SetUp(index, false) })
	p := b.pod(b.of(1, asking("max_tx_rate")))
	b.says(p.refused("ADD"), network.Invalid, "driver "+b.Driver, "only while the PF's link is up")
	p.do("DEL")
	b.pfUp()
}

// delFails: somebody has hidden the PF.
func delFails(b *Bed) {
	p := b.pod(b.of(3, b.every())).add()
	name, hidden := b.pf().Name, b.pod(nil)
	b.moveAway(name, hidden.path)
	b.has(p.refused("DEL").Error(), "PF "+b.PFPCI+" has no network device on the node")
	if r := b.claim(3); r == nil || r.Failed == "" {
		b.t.Fatalf("the VF is not quarantined: %+v", r)
	}
	b.moveBack(hidden.path, "aside", name)
	b.pfUp()
	for range len(b.pf().VFs) - 1 { // a pick passes it over
		if got := b.pod(b.fast(nil)).add().result.Interfaces[0].PciID; got == b.pf().VFs[3] {
			b.t.Error("a VF in quarantine was picked")
		}
	}
	b.says(b.pod(b.fast(nil)).refused("ADD"), network.Again, "3 is quarantined: ")
	p.do("DEL")
	next := b.pod(b.fast(nil)).add()
	b.expect("the VF that is free again", next.result.Interfaces[0].PciID, b.pf().VFs[3])
	p.do("DEL")
	next.do("CHECK")
	for i := range b.pf().VFs {
		r := b.claim(i)
		call := p.call("DEL")
		call.ContainerID, call.Netns, call.State = r.Container, r.Path, nil
		_, err := p.run(call)
		b.must(err)
	}
}

// calledOffMidway: wherever ADD was.
func calledOffMidway(b *Bed) {
	for _, soon := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		before := b.look()
		p := b.pod(b.of(2, b.every()))
		ctx, cancel := context.WithTimeout(b.t.Context(), soon)
		_, err := b.plugin.Run(ctx, p.call("ADD"))
		cancel()
		b.t.Logf("ADD called off after %s: %v", soon, err)
		time.Sleep(time.Second) // what a late driver takes over it has by then
		p.do("DEL")
		b.same(before)
	}
}

func calledOff(b *Bed) {
	p := b.pod(b.of(2, nil)).add()
	q := b.pod(b.of(2, b.every()))
	ctx, cancel := context.WithCancel(b.t.Context())
	call := q.call("ADD")
	done := make(chan error)
	go func() {
		_, err := b.plugin.Run(ctx, call)
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	cancel()
	if err := <-done; err == nil {
		b.t.Error("ADD succeeded")
	}
	q.do("DEL")
	p.do("CHECK")
	p.do("DEL")
}
