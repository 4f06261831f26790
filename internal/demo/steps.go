package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func (s *show) showAnnotation(context.Context) error {
	s.heading("The pod %s asks for networks (%s)", s.manifest, examplePod)
	s.say("  %s:", network.NetworksAnnotation)
	s.say("%s", indent(s.manifest.networks(), "    "))
	return nil
}

// add is the runtime's ADD, and CHECK after it.
func (s *show) add(ctx context.Context) error {
	var err error
	if s.pod, err = newSandbox("checkout", s.manifest); err != nil {
		return err
	}
	if s.before, err = snapshot(s.node, s.pod.NS); err != nil {
		return err
	}
	start := time.Now()
	result, err := s.runtime.add(ctx, s.pod)
	if err != nil {
		return err
	}
	took := time.Since(start)
	if err = s.runtime.check(ctx, s.pod); err != nil {
		return err
	}
	text, err := resultJSON(result)
	if err != nil {
		return err
	}
	s.heading("ADD: the runtime calls the first file of %s, and gets one merged result", confDir)
	s.say("%s", indent(text, "  "))
	s.say("\n  ADD took %d ms; CHECK finds everything in its place.", took.Milliseconds())
	return nil
}

func (s *show) showNICs(context.Context) error {
	nics, err := readNICs(s.pod.NS)
	if err != nil {
		return err
	}
	s.nics = names(nics)
	if err = s.readNetworks(); err != nil {
		return err
	}
	rows := [][]string{nicHeader()}
	for i := range nics {
		rows = append(rows, nics[i].row(s.networks[nics[i].name]))
	}
	s.heading("The pod's NICs, as the kernel shows them")
	return printTable(s.out, rows...)
}

// readNetworks learns from the journal which NIC belongs to which network.
func (s *show) readNetworks() error {
	contents, err := (&journal.Store{Dir: stateDir, Now: time.Now}).Read(s.pod.id)
	if err != nil {
		return fmt.Errorf("read the journal of the pod: %w", err)
	}
	s.networks = map[string]string{}
	for i := range contents.Records {
		s.networks[contents.Records[i].IfName] = contents.Records[i].Reference
	}
	return nil
}

// provePackets sends packets to the peer of each network.
func (s *show) provePackets(ctx context.Context) error {
	s.heading("Proof: packets sent/received on each NIC, by its counters")
	rows := [][]string{proofHeader(s.nics)}
	var wrong []string
	for i := range s.peers {
		p := &s.peers[i]
		proof, err := prove(ctx, s.pod.NS, p.nic, p.address.IP)
		if err != nil {
			return err
		}
		rows = append(rows, proof.row(s.what(p), s.nics))
		if proof.wrong() != "" {
			wrong = append(wrong, s.what(p)+": "+proof.wrong())
		}
	}
	if err := printTable(s.out, rows...); err != nil {
		return err
	}
	s.say("\n  Each probe is an ICMP echo; ARP adds a packet or two.")
	if len(wrong) > 0 {
		return fmt.Errorf("packets took the wrong way: %s; compare the routes in the table of NICs", strings.Join(wrong, "; "))
	}
	return nil
}

// what names a peer's network in a table.
func (s *show) what(p *peer) string {
	if p.outside {
		return "world outside"
	}
	return s.networks[p.nic]
}

// proveBroken sends one network's packets by the cluster network, where they
// arrive all the same, and expects the same proof to fail.
func (s *show) proveBroken(ctx context.Context) error {
	p, gateway, err := s.victim()
	if err != nil {
		return err
	}
	s.heading("The proof can fail: a wrong route sends %s by eth0, and replies still come", p.address.IP)
	undo, err := detour(s.pod.NS, "eth0", p.address.IP, gateway)
	if err != nil {
		return err
	}
	broken, err := prove(ctx, s.pod.NS, p.nic, p.address.IP)
	if err = errors.Join(err, undo()); err != nil {
		return err
	}
	healed, err := prove(ctx, s.pod.NS, p.nic, p.address.IP)
	if err != nil {
		return err
	}
	rows := [][]string{
		proofHeader(s.nics),
		broken.row(s.what(p)+", broken", s.nics),
		healed.row(s.what(p)+", undone", s.nics),
	}
	if err = printTable(s.out, rows...); err != nil {
		return err
	}
	if broken.wrong() == "" {
		return errors.New("the wrong route was not noticed: the proof above proves nothing; correct internal/demo/proof.go")
	}
	if healed.wrong() != "" {
		return fmt.Errorf("the wrong route is gone, and still: %s", healed.wrong())
	}
	s.say("\n  The wrong route was noticed, and is gone again.")
	return nil
}

// victim is the first peer behind another NIC than eth0, with eth0's gateway.
func (s *show) victim() (*peer, net.IP, error) {
	var gateway net.IP
	for i := range s.peers {
		p := &s.peers[i]
		if p.nic == "eth0" && !p.outside {
			gateway = p.gateway
		}
		if p.nic != "eth0" && gateway != nil {
			return p, gateway, nil
		}
	}
	return nil, nil, fmt.Errorf("no second network: %s asks for none that has addresses", examplePod)
}

// detour routes one address through another NIC.
func detour(pod *nettest.NS, nic string, to, gateway net.IP) (undo func() error, err error) {
	handle, err := pod.Handle()
	if err != nil {
		return nil, err
	}
	link, err := handle.LinkByName(nic)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", nic, err)
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: to, Mask: net.CIDRMask(32, 32)},
		Gw:        gateway,
	}
	if err = handle.RouteAdd(route); err != nil {
		return nil, fmt.Errorf("add a wrong route: %w", err)
	}
	return func() error { return handle.RouteDel(route) }, nil
}

// remove is the runtime's DEL, and the comparison with what was before ADD.
func (s *show) remove(ctx context.Context) error {
	start := time.Now()
	if err := s.runtime.del(ctx, s.pod); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := snapshot(s.node, s.pod.NS)
	if err != nil {
		return err
	}
	peers := make([]string, len(s.peers))
	for i := range peers {
		peers[i] = peerName(i)
	}
	k, err := readKept(s.node, peers)
	if err != nil {
		return err
	}
	s.heading("DEL, and what is left (it took %d ms)", took.Milliseconds())
	s.say("  Compared with before ADD, on the node and in the pod's namespace: links, addresses,")
	s.say("  routes, rules, sysctls, nftables, processes, locks, and the files under /etc/cni,")
	s.say("  /var/lib/cni and /run/cni: %d lines.", strings.Count(after, "\n"))
	if left := append(difference(s.before, after), k.unexpected()...); len(left) > 0 {
		s.say("\n%s", indent(strings.Join(left, "\n"), "  "))
		return errors.New("DEL did not remove everything, see above; this is a bug: please report it with this output")
	}
	s.say("\n  Nothing is left of the pod, and no journal in %s/journal.", stateDir)
	s.say("  The reference plugins keep, on purpose, for the next pod (a pod before this one left the same):")
	s.say("%s", indent(k.String(), "    "))
	return nil
}
