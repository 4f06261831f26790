package sriovtest

import (
	"context"
	"os"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// waitCases are about what changes while an ADD waits for a lock, and so after
// it has looked for the first time.
func waitCases() []Case {
	return []Case{
		{Name: "a VF gets its own driver while ADD waits for it", run: func(b *Bed) { boundMeanwhile(b, "vfio-pci", b.VF) }},
		{Name: "a VF gets a driver while ADD waits for it", run: func(b *Bed) { boundMeanwhile(b, "", b.VF) }},
		{Name: "a VF goes to a process while ADD waits for it", run: func(b *Bed) { boundMeanwhile(b, b.VF, "vfio-pci") }},
		{Name: "VFs are made while ADD waits for their PF", Makes: true, run: madeMeanwhile},
		{Name: "VFs are made and offered while ADD waits for their PF", Needs: []string{"pfOnly"}, Makes: true, run: offeredMeanwhile},
		{Name: "ADD again without a DEL between, beside sriov-cni", run: againBesideForeign},
	}
}

// meanwhile holds the lock of a device, changes something when an ADD waits for
// it, and returns what the ADD says.
func (p *pod) meanwhile(pci string, change func()) error {
	p.t.Helper()
	unlock, err := sriov.NewClaims(p.in("state"), p.in("foreign")).Lock(context.Background(), pci)
	p.must(err)
	call, done := p.call("ADD"), make(chan error)
	go func() {
		_, addErr := p.run(call)
		done <- addErr
	}()
	time.Sleep(500 * time.Millisecond) // what it looks at before its lock it has seen by then
	change()
	unlock()
	return <-done
}

func boundMeanwhile(b *Bed, from, to string) {
	pci := b.pf().VFs[1]
	own := b.link("", pci)
	if from != b.VF {
		b.must(b.Bind(pci, from))
	}
	p := b.pod(b.of(1, nil))
	b.must(p.meanwhile(pci, func() { b.must(b.Bind(pci, to)) }))
	moved := 1 // lo
	if to == b.VF {
		moved = 2
	}
	b.within(p.path, func(ns sriov.Netns) error {
		links, err := ns.Links()
		b.expect("devices in the pod", len(links), moved)
		return err
	})
	r := b.claim(1)
	b.expect("the driver that DEL would bring back", r.Original.Driver, to)
	p.do("DEL")
	if to != b.VF {
		b.must(b.Bind(pci, b.VF))
	}
	b.asBefore(1, own)
}

func madeMeanwhile(b *Bed) {
	b.RemoveVFs()
	p := b.pod(b.fast(nil))
	b.must(p.meanwhile(b.PFPCI, b.MakeVFs))
	b.expect("the VF", b.claim(0) != nil, true)
	p.do("DEL")
}

func offeredMeanwhile(b *Bed) {
	b.RemoveVFs()
	p := b.pod(b.fast(obj{"pfOnly": true}))
	err := p.meanwhile(b.PFPCI, func() {
		b.MakeVFs()
		b.write("state/pools.json", obj{"pools": obj{"example.com/fast": b.pf().VFs[:3]}})
	})
	b.says(err, network.Invalid, "is advertised as example.com/fast")
	p.do("DEL")
}

// againBesideForeign: what sriov-cni reads of this pod's VF is this pod's own.
func againBesideForeign(b *Bed) {
	b.must(os.MkdirAll(b.in("foreign"), 0o700))
	addAgain(b)
}
