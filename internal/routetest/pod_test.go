package routetest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// pod is a namespace that multiplexer attached, or may.
type pod struct {
	*world
	ns     *nettest.NS
	name   string          // the container's
	config obj             // multiplexer's
	nics   map[string]pair // addresses, without length
	stderr string          // of the ADD
}

// newPod is a pod that asks for networks, with nothing attached yet. Each
// `more` changes the configuration.
func (w *world) newPod(t *testing.T, networks string, more ...obj) *pod {
	t.Helper()
	p := &pod{world: w, ns: nettest.Namespace(t, "pod-"), name: fmt.Sprintf("c%d", w.pods)}
	w.pods++
	promptIPv6(t, p.ns)
	p.config = obj{
		"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": "",
		"clusterNetwork": w.in("cluster"), "confDir": w.in("net.d"), "stateDir": w.in("state"),
		"routing":      obj{"mode": "guard"},
		"clusterCIDRs": append(podRange().all(), serviceRange().all()...),
		"runtimeConfig": obj{"io.kubernetes.cri.pod-annotations": obj{
			"k8s.v1.cni.cncf.io/networks": networks,
		}},
	}
	for _, keys := range more {
		maps.Copy(p.config, keys)
	}
	maps.DeleteFunc(p.config, func(_ string, value any) bool { return value == nil })
	return p
}

// attach makes a pod, adds it, checks it, and removes it at the end of the
// test.
func (w *world) attach(t *testing.T, networks string, more ...obj) *pod {
	t.Helper()
	p := w.newPod(t, networks, more...)
	p.add(t)
	t.Cleanup(func() { p.del(t) })
	return p
}

// add runs ADD, and right after it CHECK, as CRI-O does. Of a mutant the
// packets are to tell what is wrong, not its CHECK.
func (p *pod) add(t *testing.T) {
	t.Helper()
	p.stderr = string(p.ok(t, "ADD").Stderr)
	if !isMutant() {
		p.ok(t, "CHECK")
	}
	p.settle(t)
	p.learn(t)
}

// settle waits until IPv6 is ready on every NIC, which the kernel sees to in
// its own time.
func (p *pod) settle(t *testing.T) {
	t.Helper()
	await(t, "every NIC has a link-local address", func() bool {
		ready := map[int]bool{}
		for _, addr := range addresses(t, p.ns) {
			ready[addr.LinkIndex] = ready[addr.LinkIndex] || familyOf(addr.IP) == v6 && addr.IP.IsLinkLocalUnicast()
		}
		for _, l := range links(t, p.ns) {
			if l.Attrs().Name != "lo" && !ready[l.Attrs().Index] {
				return false
			}
		}
		return true
	})
	must(t, p.ns.Settle(t.Context()))
}

func (p *pod) del(t *testing.T) {
	t.Helper()
	if e := p.call(t, "DEL").Error(); e != nil {
		t.Errorf("DEL: %s", e)
	}
}

// ok is a call that must succeed.
func (p *pod) ok(t *testing.T, verb string) nettest.Outcome {
	t.Helper()
	out := p.call(t, verb)
	if e := out.Error(); e != nil {
		t.Fatalf("%s: %s\n%s", verb, e, out.Stderr)
	}
	return out
}

func (p *pod) call(t *testing.T, verb string) nettest.Outcome {
	t.Helper()
	return p.callOf(t, nettest.Binary(t), verb)
}

// callOf calls another executable of multiplexer.
func (p *pod) callOf(t *testing.T, bin, verb string) nettest.Outcome {
	t.Helper()
	stdin, err := json.Marshal(p.config)
	must(t, err)
	return p.run(t, nettest.CNICall{Bin: bin, Command: verb, IfName: "eth0", Stdin: stdin})
}

// run calls a plugin for the pod.
func (p *pod) run(t *testing.T, call nettest.CNICall) nettest.Outcome {
	t.Helper()
	call.ContainerID, call.Netns = p.name, p.ns.Path()
	call.Path = []string{filepath.Dir(shapePlugin()), nettest.Plugins(t)}
	call.Args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=0001"
	// At a test's end its context is over, and the pod is not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	out, err := p.node.CNI(ctx, call)
	must(t, err)
	return out
}

// learn reads the addresses that the pod has.
func (p *pod) learn(t *testing.T) {
	t.Helper()
	p.nics = map[string]pair{}
	for _, addr := range addresses(t, p.ns) {
		if addr.IP.IsGlobalUnicast() {
			name := p.deviceOf(t, addr.LinkIndex)
			nic := p.nics[name]
			nic.with(familyOf(addr.IP), addr.IP.String())
			p.nics[name] = nic
		}
	}
}

func (p *pod) deviceOf(t *testing.T, index int) string {
	t.Helper()
	l, err := handle(t, p.ns).LinkByIndex(index)
	must(t, err)
	return l.Attrs().Name
}

// names are the pod's NICs in order: eth0, net1, net2.
func (p *pod) names() []string { return slices.Sorted(maps.Keys(p.nics)) }

// has reports whether a NIC has an address of the family.
func (p *pod) has(nic string, f family) bool { return p.nics[nic].of(f) != "" }

// addresses are the NICs with each family that they have an address of.
func (p *pod) addresses() iter.Seq2[string, family] {
	return func(yield func(string, family) bool) {
		for _, nic := range p.names() {
			for _, f := range families() {
				if p.has(nic, f) && !yield(nic, f) {
					return
				}
			}
		}
	}
}

// moved asks for networks of which the first carries the defaults by these
// gateways.
func moved(gateways []string, first string, others ...string) string {
	if gateways == nil {
		gateways = []string{}
	}
	list := []obj{{"name": first, "default-route": gateways}}
	for _, name := range others {
		list = append(list, obj{"name": name})
	}
	raw, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(raw)
}
