package routetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// destination is somebody whom the pod talks to.
type destination struct {
	name string
	ns   *nettest.NS
	addr pair
	nic  pair // that unbound sockets leave by
}

// destinations are the outside host, both segments, and the cluster's ranges.
// eth0 has no address of the other family in some shapes; nothing of the
// cluster can be reached by it then.
func (p *pod) destinations(a arrangement) []destination {
	list := []destination{
		{"outside", p.outside, outsideAddr(), pair{a.v4, a.v6}},
		{"red", p.red.ns, p.red.gateway(), pair{"net1", "net1"}},
		{"blue", p.blue.ns, p.blue.gateway(), pair{"net2", "net2"}},
		{"a pod of another node", p.backend, backendAddr(), pair{"eth0", "eth0"}},
		{"NodeLocal DNS", p.node.NS, pair{v4: nodeLocalDNS}, pair{"eth0", "eth0"}},
	}
	for i, d := range list {
		if d.nic.v4 == "eth0" && !p.shape.has(v4) {
			list[i].addr.v4 = ""
		}
	}
	return list
}

// An unbound socket leaves by the NIC that is on the destination's segment, to
// cluster ranges by the cluster network, and to the rest of the world by the
// carrier of the default; its source is that NIC's address.
func TestClientLeavesByTheRightNIC(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, a arrangement) {
		for _, d := range p.destinations(a) {
			for _, f := range families() {
				for _, protocol := range []protocol{tcp(), udp(), icmp()} {
					if d.addr.of(f) == "" {
						continue
					}
					nic := d.nic.of(f)
					t.Run(fmt.Sprint(d.name, " ", f, " ", protocol.name), func(t *testing.T) {
						p.probe(t, probe{
							protocol: protocol, client: p.ns, server: d.ns, to: d.addr.of(f),
							want: by(nic), seen: p.nics[nic].of(f),
						})
					})
				}
			}
		}
	})
}

// A socket bound to an address or a NIC leaves by that NIC and its gateway,
// whoever carries the default.
func TestBoundClientLeavesByItsNIC(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, _ arrangement) {
		for nic, f := range p.addresses() {
			for how, from := range map[string]nettest.From{
				"address": {Addr: p.nics[nic].of(f)},
				"device":  {Device: nic},
			} {
				for _, protocol := range []protocol{tcp(), udp(), icmp()} {
					t.Run(fmt.Sprint(nic, " by ", how, " ", f, " ", protocol.name), func(t *testing.T) {
						p.probe(t, probe{
							protocol: protocol, client: p.ns, from: from, server: p.outside, to: outsideAddr().of(f),
							want: by(nic), seen: p.nics[nic].of(f),
						})
					})
				}
			}
		}
	})
}

// A socket that the application bound to a secondary keeps that NIC, also to
// a cluster range: nobody answers, and nothing leaves by eth0.
func TestBoundClientKeepsItsNICToClusterRanges(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, _ arrangement) {
		for _, f := range families() {
			t.Run(f.String(), func(t *testing.T) {
				p.carries(t, ways{out: "net1"}, func() error {
					return shout(t.Context(), p.ns, nettest.From{Addr: p.nics["net1"].of(f)}, backendAddr().of(f))
				})
			})
		}
	})
}

// shout sends UDP packets and waits for nothing.
func shout(ctx context.Context, ns *nettest.NS, from nettest.From, to string) error {
	conn, err := ns.Dial(ctx, "udp", from, join(to, 9))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for range packets {
		if _, err = conn.Write([]byte("packet")); err != nil {
			return err
		}
	}
	return nil
}

// What is bound to a NIC that knows no way leaves by no other NIC.
func TestNothingFallsThroughToAnotherNIC(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.attach(t, "red-default, overlap")
		p.show(t)
		for _, f := range families() {
			t.Run("no gateway, "+f.String(), func(t *testing.T) {
				p.keepsSilent(t, nettest.From{Addr: p.nics["net2"].of(f)}, outsideAddr().of(f))
			})
		}
		t.Run("NIC is down", func(t *testing.T) {
			must(t, handle(t, p.ns).LinkSetDown(link(t, p.ns, "net1")))
			p.keepsSilent(t, nettest.From{Addr: p.nics["net1"].v4}, outsideAddr().v4)
		})
	})
}

// keepsSilent demands that no packet leaves. That sending fails is welcome.
func (p *pod) keepsSilent(t *testing.T, from nettest.From, to string) {
	t.Helper()
	p.carries(t, ways{}, func() error {
		_ = shout(t.Context(), p.ns, from, to)
		return nil
	})
}
