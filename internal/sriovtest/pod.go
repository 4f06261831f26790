package sriovtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// pod is a container that asks for a VF as net1.
type pod struct {
	*Bed
	id     string
	number int
	path   string // of its namespace
	end    func()
	conf   obj
	state  journal
	result *current.Result
}

// journal keeps an attachment's record in memory.
type journal struct{ raw []byte }

// Load implements network.State.
func (j *journal) Load() []byte { return j.raw }

// Save implements network.State.
func (j *journal) Save(raw []byte) error {
	j.raw = slices.Clone(raw)
	return nil
}

const ifname = "net1"

// pod makes a pod that asks for a network with these keys.
func (b *Bed) pod(keys obj) *pod {
	b.t.Helper()
	b.pods++
	conf := obj{"cniVersion": "1.1.0", "name": "fast", "type": "sriov", "ipam": obj{"type": "static"}}
	for key, value := range keys {
		conf[key] = value
	}
	p := &pod{Bed: b, id: fmt.Sprintf("container-%d", b.pods), number: b.pods, conf: conf}
	p.path, p.end = b.NewPod()
	return p
}

// of are the keys of a network with a VF.
func (b *Bed) of(vf int, keys obj) obj {
	b.t.Helper()
	out := obj{"deviceID": b.pf().VFs[vf]}
	for key, value := range keys {
		out[key] = value
	}
	return out
}

// call is what the meta-plugin calls.
func (p *pod) call(verb string) network.Call {
	p.t.Helper()
	conf := p.conf
	if verb == "CHECK" {
		conf = obj{"prevResult": p.result}
		for key, value := range p.conf {
			conf[key] = value
		}
	}
	stdin, err := json.Marshal(conf)
	p.must(err)
	return network.Call{
		Command: verb, ContainerID: p.id, Netns: p.path, IfName: ifname, Stdin: stdin, StateDir: p.in("state"),
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-" + p.id, State: &p.state, Exec: p.ipam,
	}
}

// run makes a call as it is.
func (p *pod) run(call network.Call) ([]byte, error) {
	p.t.Helper()
	return p.plugin.Run(p.t.Context(), call)
}

// add is an ADD that must succeed.
func (p *pod) add() *pod {
	p.t.Helper()
	out, err := p.run(p.call("ADD"))
	if err != nil {
		p.t.Fatalf("ADD: %v", err)
	}
	p.result = &current.Result{}
	p.must(json.Unmarshal(out, p.result))
	return p
}

// do is another call that must succeed.
func (p *pod) do(verb string) {
	p.t.Helper()
	if _, err := p.run(p.call(verb)); err != nil {
		p.t.Fatalf("%s: %v", verb, err)
	}
}

// refused is a call that must fail. It returns the error.
func (p *pod) refused(verb string) error {
	p.t.Helper()
	_, err := p.run(p.call(verb))
	if err == nil {
		p.t.Fatalf("%s succeeded", verb)
	}
	return err
}

// late is the DEL of a pod whose namespace is gone.
func (p *pod) late() {
	p.t.Helper()
	call := p.call("DEL")
	call.Netns = ""
	if _, err := p.run(call); err != nil {
		p.t.Fatalf("DEL without a namespace: %v", err)
	}
}

// nic is the pod's network device, by its PCI address in the result.
func (p *pod) nic() sriov.Link {
	p.t.Helper()
	return p.link(p.path, p.result.Interfaces[0].PciID)
}

// inPod does something to the pod's net1.
func (p *pod) inPod(do func(ns sriov.Netns, index int) error) {
	p.t.Helper()
	p.onLink(p.path, ifname, do)
}

// address is what IPAM gives this pod.
func (p *pod) address() string { return fmt.Sprintf("10.56.1.%d/24", p.number) }

// ipam is an IPAM plugin that keeps its leases with the bed.
func (p *pod) ipam(_ context.Context, _ string, call network.Call) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return nil, p.broken
	}
	switch call.Command {
	case "DEL":
		delete(p.leased, call.ContainerID)
	case "ADD":
		p.leased[call.ContainerID] = p.address()
		return json.Marshal(obj{"cniVersion": "1.1.0", "ips": []any{obj{"address": p.address()}}, "routes": []any{obj{"dst": "10.99.0.0/16", "gw": "10.56.1.254"}}})
	}
	return nil, nil
}
