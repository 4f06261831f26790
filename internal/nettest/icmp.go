package nettest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// ICMP types of an echo request and its reply.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// PingICMP sends one ICMP echo request from the namespace to an address and
// waits for the reply.
func (ns *NS) PingICMP(ctx context.Context, from From, to string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	target, err := netip.ParseAddr(to)
	if err != nil {
		return fmt.Errorf("parse target: %w", err)
	}
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if target.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	var conn net.PacketConn
	err = ns.bind(func() error {
		config := net.ListenConfig{Control: from.control}
		conn, err = config.ListenPacket(ctx, network, from.Addr)
		return err
	})
	if err != nil {
		return fmt.Errorf("open ICMP socket: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	packet := echoPacket(request)
	if _, err = conn.WriteTo(packet, &net.IPAddr{IP: target.AsSlice()}); err != nil {
		return fmt.Errorf("send ICMP echo to %s: %w", to, err)
	}
	buf := make([]byte, 1500)
	for {
		n, peer, readErr := conn.ReadFrom(buf)
		if readErr != nil {
			return fmt.Errorf("no ICMP reply from %s: %w", to, readErr)
		}
		// A raw socket sees every ICMP packet of the namespace.
		if n >= len(packet) && buf[0] == reply && string(buf[4:len(packet)]) == string(packet[4:]) && peer.String() == target.String() {
			return nil
		}
	}
}

// echoPacket builds an echo request that is ours by its id and its payload.
// The kernel computes the checksum of ICMPv6 itself.
func echoPacket(kind byte) []byte {
	packet := make([]byte, 16)
	packet[0] = kind
	binary.BigEndian.PutUint16(packet[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint64(packet[8:], uint64(time.Now().UnixNano()))
	if kind == echoRequest4 {
		binary.BigEndian.PutUint16(packet[2:], checksum(packet))
	}
	return packet
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
