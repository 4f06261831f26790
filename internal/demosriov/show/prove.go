package show

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/demo/proof"
	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const (
	// period is how long igb keeps new counts to itself: two seconds, and some
	// more where the processor is emulated.
	period = 2500 * time.Millisecond
	// late is how long a proof waits for them.
	late = time.Minute
)

func names() []string { return []string{"eth0", "net1", "net2"} }

// prove lets the two pods ask each other by each of their NICs.
func (s *show) prove(ctx context.Context) error {
	s.heading("Proof: packets sent/received on each NIC of %s, by the cards' own counters", s.front)
	trips := []proof.Trip{{What: "front asks outside", NIC: "eth0", To: outside(), Asker: s.front.NS}}
	for _, nic := range names() {
		there, err := s.back.address(nic)
		if err != nil {
			return err
		}
		here, err := s.front.address(nic)
		if err != nil {
			return err
		}
		trips = append(trips,
			proof.Trip{What: "front asks back", NIC: nic, To: there.IP, Asker: s.front.NS},
			proof.Trip{What: "back asks front", NIC: nic, To: here.IP, Asker: s.back.NS})
	}
	for _, t := range trips {
		if err := await(ctx, t.Asker, t.To.String()); err != nil {
			return err
		}
	}
	if err := settle(ctx, s.front.NS); err != nil {
		return err
	}
	all, err := proof.MakeAll(ctx, s.front.NS, trips, late)
	if err != nil {
		return err
	}
	if err = text.Table(s.out, all.Table(names())...); err != nil {
		return err
	}
	if wrong := all.Wrong(); len(wrong) > 0 {
		return fmt.Errorf("packets took the wrong way: %s", strings.Join(wrong, "; "))
	}
	s.say("\n  Each probe is an ICMP echo that binds no address and no NIC; ARP adds a packet or two.")
	return nil
}

// await asks until an answer comes: a VF's link takes a second or two.
func await(ctx context.Context, asker *nettest.NS, to string) error {
	if err := eventually(ctx, func() error { return ask(ctx, asker, to) }); err != nil {
		return fmt.Errorf("no packet comes through in a minute: %w", err)
	}
	return nil
}

// ask sends one packet and waits a second for its answer.
func ask(ctx context.Context, asker *nettest.NS, to string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return asker.PingICMP(ctx, nettest.From{}, to)
}

// settle waits until the counters show all that has been sent before.
func settle(ctx context.Context, ns *nettest.NS) error {
	before, err := ns.Counters()
	for err == nil && ctx.Err() == nil {
		time.Sleep(period)
		var now map[string]nettest.LinkCounters
		if now, err = ns.Counters(); err == nil && maps.Equal(before, now) {
			return nil
		}
		before = now
	}
	return errors.Join(err, ctx.Err())
}
