package nettest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"
)

func TestProbes(t *testing.T) {
	server, client := Namespace(t, "probe-"), Namespace(t, "probe-")
	addPair(t, server, "s0", client, "c0", "10.1.0.1/24", "10.1.0.2/24", "fd01::1/64", "fd01::2/64", "10.1.1.1/24", "10.1.0.3/24")
	if err := client.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"10.1.0.1", "fd01::1"} {
		t.Run(addr, func(t *testing.T) {
			stop, port, err := server.UDPEcho(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			target := net.JoinHostPort(addr, strconv.Itoa(port))
			if err = client.Ping(t.Context(), From{}, target); err != nil {
				t.Error(err)
			}
			if err = client.Ping(t.Context(), From{Device: "c0"}, target); err != nil {
				t.Error(err)
			}
			if arrives(t, client, From{Device: "lo"}, target) {
				t.Error("a probe bound to lo arrived")
			}
			if err = client.PingICMP(t.Context(), From{}, addr); err != nil {
				t.Error(err)
			}
			stopTCP, port, err := server.TCPEcho(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer stopTCP()
			if _, err = client.PingTCP(t.Context(), From{}, net.JoinHostPort(addr, strconv.Itoa(port))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProbeSaysWhatTheServerSaw(t *testing.T) {
	server, client := Namespace(t, "probe-"), Namespace(t, "probe-")
	addPair(t, server, "s0", client, "c0", "10.1.0.1/24", "10.1.0.2/24", "10.1.1.1/24", "10.1.0.3/24")
	stop, port, err := server.UDPEcho("10.1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	before, err := server.Counters()
	if err != nil {
		t.Fatal(err)
	}
	target := fmt.Sprintf("10.1.0.1:%d", port)
	for _, source := range []string{"10.1.0.2", "10.1.0.3"} {
		seen, pingErr := client.PingSeen(t.Context(), From{Addr: source}, target)
		if pingErr != nil {
			t.Fatal(pingErr)
		}
		if seen.String() != source {
			t.Errorf("server saw %s, want %s", seen, source)
		}
	}
	after, err := server.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if got := after["s0"].RxPackets - before["s0"].RxPackets; got < 2 {
		t.Errorf("s0 received %d packets, want 2 or more", got)
	}
	stop()
	if arrives(t, client, From{}, target) {
		t.Error("a stopped echo server answered")
	}
}

// arrives does not wait long: the answer is expected to be no.
func arrives(t *testing.T, client *NS, from From, target string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	return client.Ping(ctx, from, target) == nil
}
