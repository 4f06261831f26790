package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A proof sends probes, and looks at the counters of all NICs. Address
// resolution may add a packet or two to any NIC.
const (
	probes = 20
	noise  = probes / 4
)

// trip is what is to be proven: all packets of one who asks, and all replies,
// are carried by one NIC of the pod.
type trip struct {
	what     string
	nic      string
	from, to net.IP // no `from` = as the kernel chooses
	asker    *nettest.NS
}

// toPeer is the pod that asks a peer. It binds nothing, as most applications.
func toPeer(pod *nettest.NS, nic string, p *peer) trip {
	return trip{what: "to " + p.what, nic: nic, to: p.address.IP, asker: pod}
}

// fromPeer is a peer that asks an address of the pod.
func fromPeer(p *peer, n *nic) trip {
	return trip{what: "from " + p.what + " to " + n.Name, nic: n.Name, from: p.address.IP, to: n.addresses[0].IP, asker: p.ns}
}

// proof is what one series of probes showed.
type proof struct {
	trip
	replies int
	carried map[string]traffic // by NIC
}

// traffic is what a NIC carried during a proof.
type traffic struct{ sent, received uint64 }

func (t traffic) String() string { return fmt.Sprintf("%d/%d", t.sent, t.received) }

// prove sends the probes of a trip. A proof that fails is no error; ask its
// verdict.
func prove(ctx context.Context, pod *nettest.NS, t trip) (*proof, error) {
	p := &proof{trip: t, carried: map[string]traffic{}}
	if t.from == nil {
		handle, err := pod.Handle()
		if err != nil {
			return nil, err
		}
		if routes, routeErr := handle.RouteGet(t.to); routeErr == nil && len(routes) > 0 {
			p.from = routes[0].Src
		}
	}
	before, err := pod.Counters()
	if err != nil {
		return nil, err
	}
	for p.replies < probes && t.asker.PingICMP(ctx, nettest.From{}, t.to.String()) == nil {
		p.replies++
	}
	after, err := pod.Counters()
	if err != nil {
		return nil, err
	}
	for name, now := range after {
		if name != "lo" {
			p.carried[name] = traffic{now.TxPackets - before[name].TxPackets, now.RxPackets - before[name].RxPackets}
		}
	}
	return p, ctx.Err()
}

// wrong says what the proof shows to be wrong; "" when the packets went where
// they should: every probe and every reply on the one NIC, none on the others.
func (p *proof) wrong() string {
	if p.replies < probes {
		return fmt.Sprintf("probe %d got no reply", p.replies+1)
	}
	var others []string
	for _, name := range sortedNames(p.carried) {
		if t := p.carried[name]; name != p.nic && t.sent+t.received > noise {
			others = append(others, name)
		}
	}
	by := strings.Join(others, ", ")
	if t := p.carried[p.nic]; t.sent < probes || t.received < probes {
		if by == "" {
			return "not counted on " + p.nic
		}
		return fmt.Sprintf("by %s, not %s", by, p.nic)
	}
	if by != "" {
		return "also by " + by
	}
	return ""
}

// verdict is the proof in a few words.
func (p *proof) verdict() string {
	if wrong := p.wrong(); wrong != "" {
		return "WRONG: " + wrong
	}
	return "ok"
}

// row is the proof's row in a table whose columns are proofHeader's.
func (p *proof) row(nics []string) []string {
	row := []string{p.what, p.from.String(), p.to.String()}
	for _, nic := range nics {
		row = append(row, p.carried[nic].String())
	}
	return append(row, p.verdict())
}

func proofHeader(nics []string) []string {
	return append(append([]string{strconv.Itoa(probes) + " PROBES", "FROM", "TO"}, nics...), "VERDICT")
}

// proofs are several trips of one pod.
type proofs []*proof

func proveAll(ctx context.Context, pod *nettest.NS, trips []trip) (proofs, error) {
	var all proofs
	for _, t := range trips {
		p, err := prove(ctx, pod, t)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (all proofs) table(nics []string) [][]string {
	rows := [][]string{proofHeader(nics)}
	for _, p := range all {
		rows = append(rows, p.row(nics))
	}
	return rows
}

// wrong lists what went wrong, trip by trip.
func (all proofs) wrong() []string {
	var out []string
	for _, p := range all {
		if wrong := p.wrong(); wrong != "" {
			out = append(out, p.what+": "+wrong)
		}
	}
	return out
}
