package main

import (
	"context"
	"fmt"
	"io"
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

	manifest *podManifest
	node     *nettest.Node
	runtime  *containerRuntime
	peers    []peer
	networks map[string]string // by NIC

	pod    *sandbox
	nics   []string
	before string // snapshot
}

func newShow(out io.Writer, bin, plugins string) *show {
	return &show{out: out, binDirs: []string{filepath.Dir(bin), plugins}}
}

func (s *show) run(ctx context.Context) error {
	start := time.Now()
	s.say("multiplexer demo: a pod gets its cluster network and the networks that it asks for,")
	s.say("from the files in examples/. Packets prove which NIC carries what; then all is removed.")
	s.say("No cluster is needed. This machine's own network and files are not touched.")
	for _, step := range []func(context.Context) error{
		s.prepare, s.showAnnotation, s.add, s.showNICs, s.provePackets, s.proveBroken, s.remove,
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

// prepare makes the node. A first pod comes and goes, so that the node has
// what the reference plugins make once and keep, such as bridges; then a peer
// is plugged into each network.
func (s *show) prepare(ctx context.Context) error {
	var err error
	if s.manifest, err = readPod(); err != nil {
		return err
	}
	if err = installExamples(); err != nil {
		return err
	}
	if s.node, err = nettest.NewNode(); err != nil {
		return fmt.Errorf("make the node's namespace: %w", err)
	}
	if err = quiet(s.node.NS); err != nil {
		return err
	}
	if s.runtime, err = newContainerRuntime(s.node, s.binDirs...); err != nil {
		return err
	}
	first, err := newSandbox("first", s.manifest)
	if err != nil {
		return err
	}
	result, err := s.runtime.add(ctx, first)
	if err != nil {
		return err
	}
	if err = s.plugPeers(result); err != nil {
		return err
	}
	if err = s.runtime.del(ctx, first); err != nil {
		return err
	}
	return first.Close()
}

func (s *show) plugPeers(result *current.Result) error {
	for _, ip := range result.IPs {
		p, err := peerOf(result, ip)
		if err != nil {
			return err
		}
		s.peers = append(s.peers, p)
	}
	s.peers = append(s.peers, worldOutside())
	for i := range s.peers {
		if _, err := s.peers[i].plug(s.node, peerName(i)); err != nil {
			return fmt.Errorf("plug a peer into the network of %s: %w", s.peers[i].nic, err)
		}
	}
	return nil
}

func peerName(i int) string { return fmt.Sprintf("peer%d", i) }
