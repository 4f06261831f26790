package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// show is the demo, step by step.
type show struct {
	out     io.Writer
	binDirs []string // CNI_PATH
	step    int

	node    *nettest.Node
	runtime *containerRuntime

	neighbours []*peer // on the networks of the first pod
	outside    *peer   // in no range of the cluster
	service    *peer   // stands in for a Service
	elsewhere  *peer   // a pod on another node
	cables     []string

	first, second *guest
	before        string // snapshot
}

func newShow(out io.Writer, bin, plugins string) *show {
	return &show{
		out: out, binDirs: []string{filepath.Dir(bin), plugins},
		// Ranges that are reserved for documentation, and the example cluster's.
		outside:   distant("outside", net.IPv4(203, 0, 113, 10)),
		service:   distant("a Service", net.IPv4(10, 96, 0, 10)),
		elsewhere: distant("a pod elsewhere", net.IPv4(10, 244, 8, 10)),
	}
}

func (s *show) run(ctx context.Context) error {
	start := time.Now()
	s.say("multiplexer demo: two pods get the networks that they ask for, from the files in examples/.")
	s.say("Packets prove which NIC carries what; then all is removed.")
	s.say("No cluster is needed. This machine's own network and files are not touched.")
	for _, step := range []func(context.Context) error{
		s.prepare, s.ask, s.add, s.whoCarriesWhat, s.prove,
		s.addSecond, s.proveSecond, s.withoutRules, s.remove,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.say("\nDone in %.1f s.", time.Since(start).Seconds())
	return nil
}

func (s *show) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

func (s *show) heading(format string, args ...any) {
	s.step++
	s.say("\n%d. %s\n", s.step, fmt.Sprintf(format, args...))
}

// prepare makes the node, the peers, and the pods' namespaces.
func (s *show) prepare(ctx context.Context) error {
	manifests, err := readPods(firstPod, secondPod)
	if err != nil {
		return err
	}
	if err = installExamples(); err != nil {
		return err
	}
	if s.node, err = nettest.NewNode(); err != nil {
		return fmt.Errorf("make the node's namespace: %w", err)
	}
	if err = errors.Join(quiet(s.node.NS), forgiving(s.node)); err != nil {
		return err
	}
	if s.runtime, err = newContainerRuntime(s.node, s.binDirs...); err != nil {
		return err
	}
	if err = s.plugPeers(ctx, manifests); err != nil {
		return err
	}
	if s.first, err = newGuest(manifests[0]); err != nil {
		return err
	}
	if s.second, err = newGuest(manifests[1]); err != nil {
		return err
	}
	s.before, err = snapshot(s.node, s.first.sandbox, s.second.sandbox)
	return err
}

// plugPeers lets each pod come and go once, so that the node has what the
// reference plugins make once and keep, such as bridges; meanwhile a peer is
// plugged into each network of the first. The others are plugged into the node.
func (s *show) plugPeers(ctx context.Context, manifests []*podManifest) error {
	for i, manifest := range manifests {
		pod, err := newSandbox(fmt.Sprintf("before%d", i), manifest)
		if err != nil {
			return err
		}
		result, err := s.runtime.add(ctx, pod)
		if err != nil {
			return err
		}
		if i == 0 {
			err = s.plugNeighbours(pod, result)
		}
		if err = errors.Join(err, s.runtime.del(ctx, pod), pod.Close()); err != nil {
			return err
		}
	}
	return errors.Join(s.plug(s.outside), s.plug(s.service), s.plug(s.elsewhere))
}

func (s *show) plugNeighbours(pod *sandbox, result *current.Result) error {
	has, err := readCarriers(pod)
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		p, peerErr := neighbour(result, ip)
		if peerErr != nil {
			return peerErr
		}
		p.what = has.nic(p.nic).network
		if err = s.plug(p); err != nil {
			return err
		}
		s.neighbours = append(s.neighbours, p)
	}
	return nil
}

// plug connects a peer to the node with a cable of its own.
func (s *show) plug(p *peer) error {
	name := fmt.Sprintf("peer%d", len(s.cables))
	s.cables = append(s.cables, name)
	if err := p.plug(s.node, name); err != nil {
		return fmt.Errorf("plug %s into the node: %w", p.address, err)
	}
	return nil
}
