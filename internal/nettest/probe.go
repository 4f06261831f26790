package nettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probeTimeout bounds a probe whose context has no deadline. The kernel asks
// for a neighbour once a second, and a busy machine answers late.
const probeTimeout = 20 * time.Second

// From says where a probe leaves. The zero value lets the kernel decide, as
// for an application that binds nothing.
type From struct {
	Addr   string // a source address, without port
	Device string // a link, by SO_BINDTODEVICE
}

// LinkCounters are what a link has carried.
type LinkCounters struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxDropped, TxDropped uint64
}

// Counters returns the counters of every link by name.
func (ns *NS) Counters() (map[string]LinkCounters, error) {
	handle, err := ns.Handle()
	if err != nil {
		return nil, err
	}
	links, err := dump(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	counters := map[string]LinkCounters{}
	for _, link := range links {
		if s := link.Attrs().Statistics; s != nil {
			counters[link.Attrs().Name] = countersOf(s)
		}
	}
	return counters, nil
}

func countersOf(s *netlink.LinkStatistics) LinkCounters {
	return LinkCounters{
		RxPackets: s.RxPackets, TxPackets: s.TxPackets,
		RxBytes: s.RxBytes, TxBytes: s.TxBytes,
		RxDropped: s.RxDropped, TxDropped: s.TxDropped,
	}
}

// Settle waits until no IPv6 address of the namespace is tentative any more.
// Before that, a packet leaves with another source, even ::1.
func (ns *NS) Settle(ctx context.Context) error {
	handle, err := ns.Handle()
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var addrs []netlink.Addr
		addrs, err = dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_V6) })
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
		if !slices.ContainsFunc(addrs, tentative) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for IPv6 addresses: %w", ctx.Err())
		}
	}
}

// UDPEcho answers UDP packets to an address of the namespace, at a port that
// the kernel chooses, until stop is called.
func (ns *NS) UDPEcho(addr string) (stop func(), port int, err error) {
	var conn net.PacketConn
	err = ns.bind(func() error {
		conn, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("listen on %s: %w", addr, err)
	}
	go echoPackets(conn)
	return func() { _ = conn.Close() }, conn.LocalAddr().(*net.UDPAddr).Port, nil
}

// TCPEcho answers TCP connections to an address of the namespace, at a port
// that the kernel chooses, until stop is called. It first sends the address
// that it sees the peer as, and a newline; then it sends back what it gets.
func (ns *NS) TCPEcho(addr string) (stop func(), port int, err error) {
	var listener net.Listener
	err = ns.bind(func() error {
		listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("listen on %s: %w", addr, err)
	}
	go echoConnections(listener)
	return func() { _ = listener.Close() }, listener.Addr().(*net.TCPAddr).Port, nil
}

// echoPackets answers until the socket is closed.
func echoPackets(conn net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo(append(seenAs(peer), buf[:n]...), peer)
		}
	}
}

// echoConnections answers until the listener is closed.
func echoConnections(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			if _, writeErr := conn.Write(seenAs(conn.RemoteAddr())); writeErr == nil {
				_, _ = io.Copy(conn, conn)
			}
		}()
	}
}

// Ping sends a UDP packet from the namespace to an echo server ("ip:port") and
// checks that it comes back.
func (ns *NS) Ping(ctx context.Context, from From, to string) error {
	_, err := ns.PingSeen(ctx, from, to)
	return err
}

// PingSeen is Ping, and returns the source address that the server saw.
func (ns *NS) PingSeen(ctx context.Context, from From, to string) (netip.Addr, error) {
	return ns.probe(ctx, "udp", from, to)
}

// PingTCP connects from the namespace to a TCP echo server ("ip:port"), checks
// the echo, and returns the source address that the server saw.
func (ns *NS) PingTCP(ctx context.Context, from From, to string) (netip.Addr, error) {
	return ns.probe(ctx, "tcp", from, to)
}

// Dial connects from the namespace; network is "tcp" or "udp". The connection
// stays in the namespace, whoever uses it.
func (ns *NS) Dial(ctx context.Context, network string, from From, to string) (net.Conn, error) {
	target, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	dialer := net.Dialer{Control: from.control}
	if from.Addr != "" {
		var source netip.Addr
		if source, err = netip.ParseAddr(from.Addr); err != nil {
			return nil, fmt.Errorf("parse source: %w", err)
		}
		if network == "tcp" {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		} else {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
	}
	var conn net.Conn
	err = ns.bind(func() error {
		conn, err = dialer.DialContext(ctx, network, target.String())
		return err
	})
	return conn, err
}

// probe sends something that nobody can guess and reads it back.
func (ns *NS) probe(ctx context.Context, network string, from From, to string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := ns.Dial(ctx, network, from, to)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("probe %s: %w", to, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	payload := []byte(rand.Text())
	if _, err = conn.Write(payload); err != nil {
		return netip.Addr{}, fmt.Errorf("send probe to %s: %w", to, err)
	}
	answer := make([]byte, 0, 512)
	for !bytes.HasSuffix(answer, payload) {
		n, readErr := conn.Read(answer[len(answer):cap(answer)])
		if readErr != nil {
			return netip.Addr{}, fmt.Errorf("no echo from %s: %w", to, readErr)
		}
		answer = answer[:len(answer)+n]
	}
	seen, _, _ := strings.Cut(string(answer), "\n")
	peer, err := netip.ParseAddrPort(seen)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("decode echo from %s: %w", to, err)
	}
	return peer.Addr().Unmap(), nil
}

// seenAs is the first line of an echo server's answer.
func seenAs(peer net.Addr) []byte { return []byte(peer.String() + "\n") }

// control binds a socket to the device, before it gets its address.
func (f From) control(_, _ string, conn syscall.RawConn) error {
	if f.Device == "" {
		return nil
	}
	var bindErr error
	err := conn.Control(func(fd uintptr) { bindErr = unix.BindToDevice(int(fd), f.Device) })
	return errors.Join(err, bindErr)
}

// bind opens a socket in the namespace. A fresh IPv6 address cannot be bound
// until the kernel knows that nobody else has it, so it waits for that.
func (ns *NS) bind(open func() error) error {
	const patience = 30 * time.Second
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := ns.Do(open)
		if !errors.Is(err, unix.EADDRNOTAVAIL) || time.Since(start) > patience {
			return err
		}
	}
}
