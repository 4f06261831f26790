package show

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const podNamespace = "shop"

// pod is a pod of the show.
type pod struct {
	*nettest.NS
	name     string
	networks string          // its annotation
	result   *current.Result // of ADD
	took     time.Duration   // by ADD
}

// String names the pod as kubectl does.
func (p *pod) String() string { return podNamespace + "/" + p.name }

// newPod makes the pod's namespace, without IPv6: its neighbour discovery
// would be counted as packets of the pod.
func (s *show) newPod(name, networks string) (*pod, error) {
	ns, err := nettest.NewNS(name + "-")
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, ns.Close)
	return &pod{NS: ns, name: name, networks: networks}, ns.Do(func() error {
		const conf = "/proc/sys/net/ipv6/conf/"
		return errors.Join(
			os.WriteFile(conf+"all/disable_ipv6", []byte("1"), 0o644),
			os.WriteFile(conf+"default/disable_ipv6", []byte("1"), 0o644))
	})
}

func (s *show) namePods() (err error) {
	if s.front, err = s.newPod("front", `[{ "name": "mynet", "cni-args": { "IP": "10.55.206.46" } }, { "name": "data" }]`); err != nil {
		return err
	}
	if s.back, err = s.newPod("back", `[{ "name": "mynet", "cni-args": { "IP": "10.55.206.47" } }, { "name": "data" }]`); err != nil {
		return err
	}
	s.visitor, err = s.newPod("visitor", `[{ "name": "visitors" }]`)
	return err
}

func (s *show) pods() []*pod { return []*pod{s.front, s.back, s.visitor} }

// comeAndGo adds the pods and deletes them.
func (s *show) comeAndGo(ctx context.Context) error {
	for _, p := range s.pods() {
		if _, err := s.runtime.add(ctx, p); err != nil {
			return err
		}
	}
	for _, p := range s.pods() {
		if err := s.runtime.del(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// add is the runtime's ADD of all, and CHECK after it.
func (s *show) add(ctx context.Context) error {
	s.heading("ADD: the pod %s asks for both networks, and the runtime gets one merged result", s.front)
	s.say("  %s:\n    %s\n", network.NetworksAnnotation, s.front.networks)
	for _, p := range s.pods() {
		start := time.Now()
		var err error
		if p.result, err = s.runtime.add(ctx, p); err != nil {
			return err
		}
		p.took = time.Since(start)
		if err = s.runtime.check(ctx, p); err != nil {
			return err
		}
	}
	result, err := text.ResultJSON(s.front.result)
	if err != nil {
		return err
	}
	s.say("%s", text.Indent(result, "  "))
	s.say("\n  ADD took %d ms in this virtual machine; CHECK finds everything in its place.", s.front.took.Milliseconds())
	s.say("  %s asks for the same, %s for \"visitors\".", s.back, s.visitor)
	return nil
}

// address returns the pod's address on a NIC.
func (p *pod) address(name string) (*net.IPNet, error) {
	index := slices.IndexFunc(p.result.Interfaces, func(i *current.Interface) bool { return i.Name == name && i.Sandbox != "" })
	for _, ip := range p.result.IPs {
		if ip.Interface != nil && *ip.Interface == index {
			return &ip.Address, nil
		}
	}
	return nil, fmt.Errorf("%s has no address on %s", p, name)
}

// do runs a program in the pod, and shows it.
func (s *show) do(p *pod, command ...string) error {
	s.say("  %s# %s", p.name, strings.Join(command, " "))
	_, err := (&nettest.Node{NS: p.NS}).Output(command[0], command[1:]...)
	return err
}
