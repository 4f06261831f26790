package routetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// noise is what any NIC may send or receive besides the probes: address
// resolution, and what IPv6 says of itself on a fresh link.
const noise = packets / 2

// ways are the NICs by which a series of packets went out and came in.
// "" is none.
type ways struct{ out, in string }

func by(nic string) ways { return ways{nic, nic} }

// count returns what each NIC of the pod carried while f ran.
func (p *pod) count(t *testing.T, f func()) map[string]nettest.LinkCounters {
	t.Helper()
	before, err := p.ns.Counters()
	must(t, err)
	f()
	after, err := p.ns.Counters()
	must(t, err)
	carried := map[string]nettest.LinkCounters{}
	for name, now := range after {
		if name == "lo" {
			continue
		}
		now.TxPackets -= before[name].TxPackets
		now.RxPackets -= before[name].RxPackets
		carried[name] = now
	}
	return carried
}

// carries runs f, which sends a probe, and demands that all of its packets
// took these ways and no other.
func (p *pod) carries(t *testing.T, want ways, f func() error) {
	t.Helper()
	var err error
	carried := p.count(t, func() { err = f() })
	wrong := verdict(carried, want)
	if err == nil && wrong == "" {
		return
	}
	if err != nil {
		wrong = fmt.Sprintf("%v; %s", err, wrong)
	}
	t.Fatalf("%s\nwant out by %s, in by %s\n%s", wrong, want.out, want.in, table(carried))
}

// verdict says what is wrong with the counters, if anything.
func verdict(carried map[string]nettest.LinkCounters, want ways) string {
	var wrong []string
	judge := func(nic, direction, wanted string, count uint64) {
		switch {
		case nic == wanted && count < packets:
			wrong = append(wrong, fmt.Sprintf("%s carried %d packets %s, not %d", nic, count, direction, packets))
		case nic != wanted && count > noise:
			wrong = append(wrong, fmt.Sprintf("%s carried %d packets %s", nic, count, direction))
		}
	}
	for nic, c := range carried {
		judge(nic, "out", want.out, c.TxPackets)
		judge(nic, "in", want.in, c.RxPackets)
	}
	return strings.Join(wrong, ", ")
}

// table shows counters.
func table(carried map[string]nettest.LinkCounters) string {
	var b strings.Builder
	for nic, c := range carried {
		fmt.Fprintf(&b, "  %-8s %3d out %3d in\n", nic, c.TxPackets, c.RxPackets)
	}
	return b.String()
}

// show adds the pod's rules and routes to a failing test.
func (p *pod) show(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(nettest.RequireSnapshot(t, nettest.SnapshotOptions{Namespaces: map[string]string{"pod": p.ns.Path()}}))
		}
	})
}

// probe is one series of packets between the pod and somebody else.
type probe struct {
	protocol protocol
	client   *nettest.NS
	from     nettest.From
	server   *nettest.NS
	to       string // the server's address
	at       string // by which the client reaches it; "" = to
	want     ways   // of the pod's NICs
	seen     string // source that the server must see; "" = any
}

// run sends the probe and judges it.
func (p *pod) probe(t *testing.T, c probe) {
	t.Helper()
	target := c.protocol.serve(t, c.server, c.to)
	if c.at != "" {
		target = strings.Replace(target, c.to, c.at, 1)
	}
	p.carries(t, c.want, func() error {
		seen, err := c.protocol.ask(t.Context(), c.client, c.from, target)
		if err == nil && c.seen != "" && seen != "" && seen != c.seen {
			return fmt.Errorf("the server saw %s, not %s", seen, c.seen)
		}
		return err
	})
}
