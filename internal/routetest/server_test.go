package routetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A reply leaves by the NIC that the request came in by, whoever carries the
// default: the address that was asked decides (R3).
func TestServerAnswersByTheNICOfTheRequest(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, _ arrangement) {
		for nic, f := range p.addresses() {
			for _, protocol := range []protocol{tcp(), udp(), pktinfo(), icmp()} {
				t.Run(fmt.Sprint(nic, " ", f, " ", protocol.name), func(t *testing.T) {
					p.probe(t, probe{
						protocol: protocol, client: p.outside, server: p.ns, to: p.nics[nic].of(f),
						want: by(nic), seen: outsideAddr().of(f),
					})
				})
			}
		}
	})
}

// It holds for addresses too that the kernel still makes sure of when ADD
// returns: the other tests spare themselves that second.
func TestTentativeAddressesHaveTheirRules(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.newPod(t, "red-default, blue-default")
		sysctl(t, p.ns, "ipv6/conf/default/accept_dad", "1")
		p.add(t)
		p.show(t)
		for _, nic := range p.names() {
			p.probe(t, probe{
				protocol: udp(), client: p.outside, server: p.ns, to: p.nics[nic].v6,
				want: by(nic), seen: outsideAddr().v6,
			})
		}
		p.ok(t, "CHECK")
		p.del(t)
	})
}

// So does what is no reply of an application: the refusal of a connection.
func TestRefusalLeavesByTheNICOfTheRequest(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, _ arrangement) {
		for nic, f := range p.addresses() {
			t.Run(fmt.Sprint(nic, " ", f), func(t *testing.T) {
				p.carries(t, by(nic), func() error { return beRefused(t, p.outside, p.nics[nic].of(f)) })
			})
		}
	})
}

// beRefused connects to a port that nobody listens on, again and again.
func beRefused(t *testing.T, ns *nettest.NS, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience())
	defer cancel()
	for range packets {
		conn, err := ns.Dial(ctx, "tcp", nettest.From{}, join(addr, 9))
		if err == nil {
			_ = conn.Close()
			return errors.New("somebody listens on port 9")
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

// A UDP server that binds no address and does not look at PKTINFO answers as
// main says, which is not how it was asked: the answer comes by the carrier of
// the default, from that NIC's address. No routing rule can know better.
func TestWildcardUDPServerFollowsMain(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, a arrangement) {
		for nic, f := range p.addresses() {
			t.Run(fmt.Sprint(nic, " ", f), func(t *testing.T) {
				target := udp().serve(t, p.ns, anyAddress(f))
				target = strings.Replace(target, anyAddress(f), p.nics[nic].of(f), 1)
				var source string
				p.carries(t, ways{out: a.carrier(f), in: nic}, func() (err error) {
					source, err = askLoosely(t, p.outside, outsideAddr().of(f), target)
					return err
				})
				if want := p.nics[a.carrier(f)].of(f); source != want {
					t.Errorf("the answer came from %s, want %s", source, want)
				}
			})
		}
	})
}

// askLoosely sends UDP packets and takes an answer from any address, which it
// returns.
func askLoosely(t *testing.T, ns *nettest.NS, from, target string) (source string, err error) {
	t.Helper()
	var conn net.PacketConn
	must(t, ns.Do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", join(from, 0))
		return err
	}))
	defer func() { _ = conn.Close() }()
	must(t, conn.SetDeadline(time.Now().Add(patience())))
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target))
	buf := make([]byte, 2048)
	for range packets {
		if _, err = conn.WriteTo([]byte("packet"), to); err != nil {
			return "", err
		}
		_, peer, readErr := conn.ReadFrom(buf)
		if readErr != nil {
			return "", readErr
		}
		source = peer.(*net.UDPAddr).IP.String()
	}
	return source, nil
}

// Who asks from no range that the pod knows, as kubelet does from the node's
// address, gets an answer from eth0, by eth0.
func TestStrangerReachesTheClusterAddress(t *testing.T) {
	overArrangements(t, func(t *testing.T, p *pod, _ arrangement) {
		for _, f := range p.shape.families {
			for _, protocol := range []protocol{tcp(), udp(), pktinfo(), icmp()} {
				t.Run(fmt.Sprint(f, " ", protocol.name), func(t *testing.T) {
					p.probe(t, probe{
						protocol: protocol, client: p.node.NS, from: nettest.From{Addr: strangerAddr().of(f)},
						server: p.ns, to: p.nics["eth0"].of(f), want: by("eth0"), seen: strangerAddr().of(f),
					})
				})
			}
		}
	})
}
