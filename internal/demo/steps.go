package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/demo/proof"
	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func (s *show) ask(context.Context) error {
	s.heading("The pod %s asks for networks (%s)", s.first.manifest, s.first.manifest.file)
	s.annotation(s.first)
	return nil
}

func (s *show) annotation(pod *guest) {
	s.say("  %s:", network.NetworksAnnotation)
	s.say("%s", text.Indent(pod.manifest.networks(), "    "))
}

func (s *show) add(ctx context.Context) error {
	if err := s.first.arrive(ctx, s.runtime); err != nil {
		return err
	}
	result, err := text.ResultJSON(s.first.result)
	if err != nil {
		return err
	}
	s.heading("ADD: the runtime calls the first file of %s, and gets one merged result", confDir)
	s.say("%s", text.Indent(result, "  "))
	s.say("\n  ADD took %d ms; CHECK finds everything in its place.", s.first.took.Milliseconds())
	return nil
}

func (s *show) whoCarriesWhat(context.Context) error {
	s.heading("Who carries what, as the kernel has it")
	if err := s.showCarriers(s.first); err != nil {
		return err
	}
	for i := range s.first.plan.Removed {
		s.say("\n  Not kept: the network's own %s, which the pod did not ask for.", &s.first.plan.Removed[i])
	}
	return nil
}

// prove sends packets to a peer on each network and to the outside, and lets
// the outside ask the first secondary.
func (s *show) prove(ctx context.Context) error {
	secondary, err := s.first.secondary()
	if err != nil {
		return err
	}
	var trips []proof.Trip
	for _, p := range s.neighbours {
		trips = append(trips, toPeer(s.first.NS, p.nic, p))
	}
	trips = append(trips,
		toPeer(s.first.NS, s.first.everythingElse(), s.outside),
		fromPeer(s.outside, secondary))
	s.heading("Proof: packets sent/received on each NIC, by its counters")
	if err = s.proveAll(ctx, s.first, trips); err != nil {
		return err
	}
	s.say("\n  Each probe is an ICMP echo; ARP adds a packet or two.")
	return nil
}

// proveAll shows a table, where everything must be right.
func (s *show) proveAll(ctx context.Context, pod *guest, trips []proof.Trip) error {
	all, err := proof.MakeAll(ctx, pod.NS, trips, 0)
	if err != nil {
		return err
	}
	if err = text.Table(s.out, all.Table(pod.names())...); err != nil {
		return err
	}
	if wrong := all.Wrong(); len(wrong) > 0 {
		return fmt.Errorf("packets took the wrong way: %s; compare the table of who carries what", strings.Join(wrong, "; "))
	}
	return nil
}

// addSecond is the pod that moves its default route.
func (s *show) addSecond(ctx context.Context) error {
	if err := s.second.arrive(ctx, s.runtime); err != nil {
		return err
	}
	routes, err := json.Marshal(s.second.result.Routes)
	if err != nil {
		return err
	}
	s.heading("The pod %s moves its default route (%s)", s.second.manifest, s.second.manifest.file)
	s.annotation(s.second)
	s.say("\n  ADD took %d ms. In the merged result: \"routes\": %s\n", s.second.took.Milliseconds(), routes)
	return s.showCarriers(s.second)
}

// showCarriers shows who carries what in a pod, and what the rules say about it.
func (s *show) showCarriers(pod *guest) error {
	if err := text.Table(s.out, pod.rows()...); err != nil {
		return err
	}
	for _, warning := range pod.plan.Warnings {
		s.say("\n  Warning: %s", warning)
	}
	return nil
}

// trips of the second pod: what moved, what must not, and both ways back.
func (s *show) trips() []proof.Trip {
	eth0, rest := &s.second.nics[0], s.second.nic(s.second.everythingElse())
	return []proof.Trip{
		toPeer(s.second.NS, rest.Name, s.outside),
		toPeer(s.second.NS, eth0.Name, s.service),
		toPeer(s.second.NS, eth0.Name, s.elsewhere),
		fromPeer(s.outside, rest),
		fromPeer(s.outside, eth0),
	}
}

func (s *show) proveSecond(ctx context.Context) error {
	s.heading("Proof: the cluster's ranges stay on eth0, and replies leave by the NIC that was asked")
	return s.proveAll(ctx, s.second, s.trips())
}

// withoutRules takes the routing rules away, and expects the same proof, and
// CHECK, to fail.
func (s *show) withoutRules(ctx context.Context) error {
	s.heading("The proof can fail: the same without multiplexer's rules, and replies still come")
	giveBack, err := s.second.takeRules()
	if err != nil {
		return err
	}
	broken, err := proof.MakeAll(ctx, s.second.NS, s.trips(), 0)
	if err != nil {
		return err
	}
	noticed := s.runtime.check(ctx, s.second.sandbox)
	if err = giveBack(); err != nil {
		return err
	}
	healed, err := proof.MakeAll(ctx, s.second.NS, s.trips(), 0)
	if err != nil {
		return err
	}
	if err = text.Table(s.out, broken.Table(s.second.names())...); err != nil {
		return err
	}
	if len(broken.Wrong()) == 0 {
		return errors.New("nothing was noticed: the proof above proves nothing; correct internal/demo/proof")
	}
	if noticed == nil {
		return errors.New("CHECK did not notice that the rules were gone; this is a bug: please report it with this output")
	}
	first, _, _ := strings.Cut(noticed.Error(), "; ")
	s.say("\n  %s ...", first)
	if wrong := healed.Wrong(); len(wrong) > 0 {
		return fmt.Errorf("the rules are back, and still: %s", strings.Join(wrong, "; "))
	}
	if err = s.runtime.check(ctx, s.second.sandbox); err != nil {
		return err
	}
	s.say("  The rules are back: the proof holds again, and CHECK succeeds.")
	return nil
}

// remove is the runtime's DEL, and the comparison with what was before ADD.
func (s *show) remove(ctx context.Context) error {
	start := time.Now()
	if err := errors.Join(s.runtime.del(ctx, s.second.sandbox), s.runtime.del(ctx, s.first.sandbox)); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := snapshot(s.node, s.first.sandbox, s.second.sandbox)
	if err != nil {
		return err
	}
	k, err := readKept(s.node, s.cables)
	if err != nil {
		return err
	}
	s.heading("DEL of both, and what is left (it took %d ms)", took.Milliseconds())
	s.say("  Compared with before ADD, on the node and in the pods' namespaces: links, addresses,")
	s.say("  routes, rules, sysctls, nftables, processes, locks, and the files under /etc/cni,")
	s.say("  /var/lib/cni and /run/cni: %d lines.", strings.Count(after, "\n"))
	if left := append(text.Difference(s.before, after), k.unexpected()...); len(left) > 0 {
		s.say("\n%s", text.Indent(strings.Join(left, "\n"), "  "))
		return errors.New("DEL did not remove everything, see above; this is a bug: please report it with this output")
	}
	s.say("\n  Nothing is left of the pods, and no journal in %s/journal.", stateDir)
	s.say("  The reference plugins keep, on purpose, for the next pod (pods before these left the same):")
	s.say("%s", text.Indent(k.String(), "    "))
	return nil
}
