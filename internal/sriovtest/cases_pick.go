package sriovtest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func pickCases() []Case {
	return []Case{
		{Name: "master: each pod one of all the VFs, and one pod more is refused", run: pickAll},
		{Name: "master: pods at once get a VF each", run: pickAtOnce},
		{Name: "master and vf 0", run: pickFirst},
		{Name: "master and a vf that the PF does not have", run: pickTooHigh},
		{Name: "master passes over what a device plugin advertises", run: pickAdvertised},
		{Name: "master passes over what the agent's own device plugin offers", run: pickOffered},
		{Name: "master picks while a device plugin begins to offer", run: pickWhileOffered},
		{Name: "master passes over a VF without a network device", run: pickWithout},
		{Name: "a VF that a living pod has is refused by the pod's name", run: pickHeld},
		{Name: "a VF of a pod whose DEL is on its way is waited for", run: pickOnItsWay},
		{Name: "a PF itself goes to a pod", Needs: []string{"pfOnly"}, run: wholePF},
	}
}

// fast are the keys of a network that takes any VF.
func (b *Bed) fast(keys obj) obj {
	out := obj{"master": b.pf().Name}
	for key, value := range keys {
		out[key] = value
	}
	return out
}

func pickAll(b *Bed) {
	var pods []*pod
	taken := map[string]bool{}
	for range b.pf().VFs {
		p := b.pod(b.fast(nil)).add()
		pods = append(pods, p)
		taken[p.result.Interfaces[0].PciID] = true
	}
	b.expect("VFs that pods have", len(taken), len(b.pf().VFs))
	more := b.pod(b.fast(nil))
	err := more.refused("ADD")
	b.says(err, network.Again, "none of its")
	for i, p := range pods {
		b.has(err.Error(), fmt.Sprintf("%d is held by pod default/pod-%s", i, p.id))
	}
	pods[2].do("DEL")
	more.add()
	b.expect("the VF that became free", more.result.Interfaces[0].PciID, pods[2].result.Interfaces[0].PciID)
	for _, p := range append(pods, more) {
		p.do("DEL")
	}
}

func pickAtOnce(b *Bed) {
	const many = 5
	var all sync.WaitGroup
	pods, failed := make([]*pod, many), make([]error, many)
	for i := range pods {
		p := b.pod(b.fast(asking("mtu")))
		pods[i] = p
		call := p.call("ADD")
		all.Go(func() { _, failed[i] = p.run(call) })
	}
	all.Wait()
	b.must(errors.Join(failed...))
	taken := map[string]bool{}
	for i := range b.pf().VFs {
		if r := b.claim(i); r != nil {
			taken[r.Container] = true
		}
	}
	b.expect("pods that have a VF", len(taken), many)
	for i := range pods {
		p := pods[i]
		call := p.call("DEL")
		all.Go(func() { _, failed[i] = p.run(call) })
	}
	all.Wait()
	b.must(errors.Join(failed...))
}

func pickFirst(b *Bed) {
	p := b.pod(b.fast(obj{"vf": 0})).add()
	b.expect("the VF", p.result.Interfaces[0].PciID, b.pf().VFs[0])
	q := b.pod(b.fast(nil)).add() // whatever vf 0 means to others, it is taken
	b.expect("the next", q.result.Interfaces[0].PciID, b.pf().VFs[1])
	q.do("DEL")
	p.do("DEL")
}

func pickTooHigh(b *Bed) {
	n := len(b.pf().VFs)
	p := b.pod(b.fast(obj{"vf": n}))
	b.says(p.refused("ADD"), network.Invalid, fmt.Sprintf("vf %d: PF %s has %d VFs", n, b.pf().Name, n))
	p.do("DEL")
}

func pickAdvertised(b *Bed) {
	pf := b.pf()
	b.write("state/pools.json", obj{"pools": obj{"example.com/fast": pf.VFs[:3]}})
	p := b.pod(b.fast(nil)).add()
	b.expect("the first that is not", p.result.Interfaces[0].PciID, pf.VFs[3])
	p.do("DEL")
	q := b.pod(b.fast(obj{"vf": 1}))
	b.says(q.refused("ADD"), network.Invalid, "vf 1", "advertised as example.com/fast")
	b.write("state/pools.json", obj{"pools": obj{"example.com/fast": pf.VFs}})
	b.says(b.pod(b.fast(nil)).refused("ADD"), network.Invalid, "is advertised as example.com/fast")
	// A device plugin's own choice is no pick.
	r := b.pod(b.of(1, nil)).add()
	r.do("DEL")
}

func pickWithout(b *Bed) {
	aside := b.pod(nil)
	name := b.name(0)
	b.moveAway(name, aside.path)
	p := b.pod(b.fast(nil)).add()
	b.expect("the VF", p.result.Interfaces[0].PciID, b.pf().VFs[1])
	p.do("DEL")
	b.moveBack(aside.path, "aside", name)
}

func pickHeld(b *Bed) {
	p := b.pod(b.of(2, nil)).add()
	q := b.pod(b.of(2, nil))
	begin := time.Now()
	b.says(q.refused("ADD"), network.Again, "VF 2 of PF "+b.pf().Name, "pod default/pod-"+p.id)
	if took := time.Since(begin); took < 4*time.Second || took > 40*time.Second {
		b.t.Errorf("refused after %s, want 5 s", took)
	}
	q.do("DEL") // which is not p's
	p.do("CHECK")
	p.do("DEL")
}

func pickOnItsWay(b *Bed) {
	p := b.pod(b.of(2, asking("mtu"))).add()
	q := b.pod(b.of(2, nil))
	call := p.call("DEL")
	done := make(chan error)
	go func() {
		time.Sleep(time.Second)
		_, err := p.run(call)
		done <- err
	}()
	q.add()
	b.must(<-done)
	q.do("CHECK")
	b.expect("its MTU, which it did not ask for", q.nic().MTU, 1500)
	q.do("DEL")
}

func wholePF(b *Bed) {
	part := b.pod(b.fast(nil)).add()
	whole := b.pod(b.fast(obj{"pfOnly": true}))
	b.says(whole.refused("ADD"), network.Again, "pfOnly", "VF 0 of PF "+b.pf().Name+" is held by")
	part.do("DEL")
	whole.add()
	b.expect("the device", whole.result.Interfaces[0].PciID, b.PFPCI)
	whole.do("CHECK")
	whole.do("DEL")
}
