package routetest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// packets are sent in each direction for one probe, and at least received.
const packets = 20

// patience is how long a probe waits for replies that should come. In the run
// of a mutant it is as good as known that they do not.
func patience() time.Duration {
	if isMutant() {
		return 500 * time.Millisecond
	}
	return 20 * time.Second
}

// protocol is a way to send packets to a server and get each back.
type protocol struct {
	name string
	// serve starts a server that the test's end stops, and returns what to
	// send to.
	serve func(t *testing.T, ns *nettest.NS, addr string) (target string)
	// ask sends the packets and waits for each one's reply. It returns the
	// source that the server saw, if the protocol tells.
	ask func(ctx context.Context, ns *nettest.NS, from nettest.From, target string) (seen string, err error)
}

// tcp is a server that binds every address: a connection has one.
func tcp() protocol {
	return protocol{
		name: "TCP",
		serve: func(t *testing.T, ns *nettest.NS, addr string) string {
			stop, port, err := ns.TCPEcho(anyAddress(familyOf(net.ParseIP(addr))))
			must(t, err)
			t.Cleanup(stop)
			return join(addr, port)
		},
		ask: func(ctx context.Context, ns *nettest.NS, from nettest.From, target string) (string, error) {
			return exchange(ctx, "tcp", ns, from, target)
		},
	}
}

// udp is a server that binds the address.
func udp() protocol {
	return protocol{
		name: "UDP",
		serve: func(t *testing.T, ns *nettest.NS, addr string) string {
			stop, port, err := ns.UDPEcho(addr)
			must(t, err)
			t.Cleanup(stop)
			return join(addr, port)
		},
		ask: func(ctx context.Context, ns *nettest.NS, from nettest.From, target string) (string, error) {
			return exchange(ctx, "udp", ns, from, target)
		},
	}
}

// pktinfo is a UDP server that binds every address and answers from the one
// that it was asked at.
func pktinfo() protocol {
	return protocol{
		name: "UDP by PKTINFO",
		serve: func(t *testing.T, ns *nettest.NS, addr string) string {
			return join(addr, serveByPktinfo(t, ns, addr))
		},
		ask: udp().ask,
	}
}

// icmp needs no server.
func icmp() protocol {
	return protocol{
		name:  "ICMP",
		serve: func(_ *testing.T, _ *nettest.NS, addr string) string { return addr },
		ask: func(ctx context.Context, ns *nettest.NS, from nettest.From, target string) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, patience())
			defer cancel()
			for range packets {
				if err := ns.PingICMP(ctx, from, target); err != nil {
					return "", err
				}
			}
			return "", nil
		},
	}
}

// exchange sends packet after packet by one connection.
func exchange(ctx context.Context, network string, ns *nettest.NS, from nettest.From, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience())
	defer cancel()
	conn, err := ns.Dial(ctx, network, from, target)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err = conn.SetDeadline(time.Now().Add(patience())); err != nil {
		return "", err
	}
	var seen string
	for i := range packets {
		answer, roundErr := round(conn, fmt.Appendf(nil, "packet %d of %s", i, conn.LocalAddr()))
		if roundErr != nil {
			return "", fmt.Errorf("packet %d to %s: %w", i+1, target, roundErr)
		}
		if i == 0 {
			seen = answer
		}
	}
	peer, err := netip.ParseAddrPort(seen)
	if err != nil {
		return "", fmt.Errorf("decode answer of %s: %w", target, err)
	}
	return peer.Addr().Unmap().String(), nil
}

// round sends one packet, waits until it is back, and returns the line before
// it.
func round(conn net.Conn, payload []byte) (string, error) {
	if _, err := conn.Write(payload); err != nil {
		return "", err
	}
	answer := make([]byte, 0, 1024)
	for !bytes.HasSuffix(answer, payload) {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		if err != nil {
			return "", err
		}
		answer = answer[:len(answer)+n]
	}
	line, _, _ := bytes.Cut(answer, []byte("\n"))
	return string(line), nil
}
