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

// proof is what one series of probes showed.
type proof struct {
	nic     string // that must carry the packets
	from    net.IP // as the kernel chose it
	to      net.IP
	replies int
	carried map[string]traffic // by NIC
}

// traffic is what a NIC carried during a proof.
type traffic struct{ sent, received uint64 }

func (t traffic) String() string { return fmt.Sprintf("%d/%d", t.sent, t.received) }

// prove sends probes from the pod. A proof that fails is no error; ask its
// verdict.
func prove(ctx context.Context, pod *nettest.NS, nic string, to net.IP) (*proof, error) {
	p := &proof{nic: nic, to: to, carried: map[string]traffic{}}
	handle, err := pod.Handle()
	if err != nil {
		return nil, err
	}
	if routes, routeErr := handle.RouteGet(to); routeErr == nil && len(routes) > 0 {
		p.from = routes[0].Src
	}
	before, err := pod.Counters()
	if err != nil {
		return nil, err
	}
	for p.replies < probes && pod.PingICMP(ctx, nettest.From{}, to.String()) == nil {
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
func (p *proof) row(what string, nics []string) []string {
	row := []string{what, p.from.String(), p.to.String()}
	for _, nic := range nics {
		row = append(row, p.carried[nic].String())
	}
	return append(row, p.verdict())
}

func proofHeader(nics []string) []string {
	return append(append([]string{strconv.Itoa(probes) + " PROBES TO", "FROM", "TO"}, nics...), "VERDICT")
}
