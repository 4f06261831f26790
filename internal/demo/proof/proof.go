// Package proof shows by packets and counters which NIC of a pod carries what.
package proof

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A proof sends probes, and looks at the counters of all NICs. Address
// resolution may add a packet or two to any NIC.
const (
	Probes = 20
	noise  = Probes / 4
)

// Trip is what is to be proven: all packets of one who asks, and all replies,
// are carried by one NIC of the pod.
type Trip struct {
	What     string
	NIC      string
	From, To net.IP // no From = as the kernel chooses
	Asker    *nettest.NS
}

// Proof is what one series of probes showed.
type Proof struct {
	Trip
	Replies int
	Carried map[string]Traffic // by NIC
}

// Traffic is what a NIC carried during a proof.
type Traffic struct{ Sent, Received uint64 }

// String shows both numbers.
func (t Traffic) String() string { return fmt.Sprintf("%d/%d", t.Sent, t.Received) }

// Make sends the probes of a trip. A proof that fails is no error; ask what is
// Wrong. Cards count late: for as long as that can take it is counted again.
func Make(ctx context.Context, pod *nettest.NS, t Trip, late time.Duration) (*Proof, error) {
	p := &Proof{Trip: t}
	if t.From == nil {
		handle, err := t.Asker.Handle()
		if err != nil {
			return nil, err
		}
		if routes, routeErr := handle.RouteGet(t.To); routeErr == nil && len(routes) > 0 {
			p.From = routes[0].Src
		}
	}
	before, err := pod.Counters()
	if err != nil {
		return nil, err
	}
	for p.Replies < Probes && t.Asker.PingICMP(ctx, nettest.From{}, t.To.String()) == nil {
		p.Replies++
	}
	for end := time.Now().Add(late); ; time.Sleep(50 * time.Millisecond) {
		if err = p.count(pod, before); err != nil {
			return nil, err
		}
		if p.Wrong() == "" || p.Replies < Probes || !time.Now().Before(end) {
			return p, ctx.Err()
		}
	}
}

// count writes down what the pod's NICs have carried since.
func (p *Proof) count(pod *nettest.NS, since map[string]nettest.LinkCounters) error {
	after, err := pod.Counters()
	if err != nil {
		return err
	}
	p.Carried = map[string]Traffic{}
	for name, now := range after {
		if name != "lo" {
			p.Carried[name] = Traffic{now.TxPackets - since[name].TxPackets, now.RxPackets - since[name].RxPackets}
		}
	}
	return nil
}

// Wrong says what the proof shows to be wrong; "" when the packets went where
// they should: every probe and every reply on the one NIC, none on the others.
func (p *Proof) Wrong() string {
	if p.Replies < Probes {
		return fmt.Sprintf("probe %d got no reply", p.Replies+1)
	}
	var others []string
	for _, name := range text.SortedNames(p.Carried) {
		if t := p.Carried[name]; name != p.NIC && t.Sent+t.Received > noise {
			others = append(others, name)
		}
	}
	by := strings.Join(others, ", ")
	if t := p.Carried[p.NIC]; t.Sent < Probes || t.Received < Probes {
		if by == "" {
			return "not counted on " + p.NIC
		}
		return fmt.Sprintf("by %s, not %s", by, p.NIC)
	}
	if by != "" {
		return "also by " + by
	}
	return ""
}

// verdict is the proof in a few words.
func (p *Proof) verdict() string {
	if wrong := p.Wrong(); wrong != "" {
		return "WRONG: " + wrong
	}
	return "ok"
}

// row is the proof's row in a table whose columns are header's.
func (p *Proof) row(nics []string) []string {
	row := []string{p.What, p.From.String(), p.To.String()}
	for _, nic := range nics {
		row = append(row, p.Carried[nic].String())
	}
	return append(row, p.verdict())
}

func header(nics []string) []string {
	return append(append([]string{strconv.Itoa(Probes) + " PROBES", "FROM", "TO"}, nics...), "VERDICT")
}

// Proofs are several trips of one pod.
type Proofs []*Proof

// MakeAll makes one trip after the other.
func MakeAll(ctx context.Context, pod *nettest.NS, trips []Trip, late time.Duration) (Proofs, error) {
	var all Proofs
	for _, t := range trips {
		p, err := Make(ctx, pod, t, late)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Table shows the proofs, with a column for each NIC.
func (all Proofs) Table(nics []string) [][]string {
	rows := [][]string{header(nics)}
	for _, p := range all {
		rows = append(rows, p.row(nics))
	}
	return rows
}

// Wrong lists what went wrong, trip by trip.
func (all Proofs) Wrong() []string {
	var out []string
	for _, p := range all {
		if wrong := p.Wrong(); wrong != "" {
			out = append(out, p.What+": "+wrong)
		}
	}
	return out
}
