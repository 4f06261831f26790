package sriovtest

import (
	"errors"
	"sync"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// pickWhileOffered: pods pick, by number and any, while a device plugin begins
// to offer all VFs. Each VF goes to one of them.
func pickWhileOffered(b *Bed) {
	pf := b.pf()
	claims := sriov.NewClaims(b.in("state"), "")
	var all sync.WaitGroup
	var pods []*pod
	failed := make([]error, 4)
	for i := range failed {
		keys := obj{}
		if i%2 == 1 {
			keys["vf"] = len(pf.VFs) - 1 - i
		}
		p := b.pod(b.fast(keys))
		pods = append(pods, p)
		call := p.call("ADD")
		all.Go(func() { _, failed[i] = p.run(call) })
	}
	var offered error
	all.Go(func() {
		for _, pci := range pf.VFs {
			_, err := claims.Offer(b.t.Context(), pf.PCI, []sriov.Offer{{PCI: pci, PF: pf.PCI, Resource: "example.com/fast"}})
			if err != nil {
				offered = errors.Join(offered, err)
			}
		}
	})
	all.Wait()
	b.must(offered)
	advertised, err := claims.Advertised()
	b.must(err)
	picked := 0
	for i, pci := range pf.VFs {
		switch r := b.claim(i); {
		case r != nil && advertised[pci] != "":
			b.t.Errorf("VF %d is %s's and is offered", i, r.Holder())
		case r == nil && advertised[pci] == "":
			b.t.Errorf("VF %d is nobody's", i)
		case r != nil:
			picked++
		}
	}
	for i, p := range pods {
		switch {
		case failed[i] == nil:
			picked--
		case !errors.Is(failed[i], network.Invalid) && !errors.Is(failed[i], network.Again):
			b.t.Errorf("a pod fails with %v", failed[i])
		}
		p.do("DEL")
	}
	b.expect("VFs that pods have, more than pods that have one", picked, 0)
}

// pickOffered: a VF or PF that a device plugin offers is refused by number too,
// also where only its own word says so.
func pickOffered(b *Bed) {
	pf := b.pf()
	claims := sriov.NewClaims(b.in("state"), "")
	_, err := claims.Offer(b.t.Context(), pf.PCI, []sriov.Offer{{PCI: pf.VFs[0], PF: pf.PCI, Resource: "example.com/fast"}})
	b.must(err)
	b.says(b.pod(b.fast(obj{"vf": 0})).refused("ADD"), network.Invalid, "is advertised as example.com/fast")
	p := b.pod(b.fast(nil)).add()
	b.expect("the first that is not", p.result.Interfaces[0].PciID, pf.VFs[1])
	refused, err := claims.Offer(b.t.Context(), pf.PCI, []sriov.Offer{{PCI: pf.VFs[1], PF: pf.PCI, Resource: "example.com/fast"}})
	b.must(err)
	b.has(refused[pf.VFs[1]], "was picked by `master`")
	p.do("DEL")
	b.must(claims.SetOffers(nil))
}
