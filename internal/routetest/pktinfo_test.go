package routetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// serveByPktinfo answers UDP packets to every address of the family, each
// from the address that it was sent to (IP_PKTINFO, IPV6_RECVPKTINFO), as
// careful servers do. It lets the kernel choose the NIC.
func serveByPktinfo(t *testing.T, ns *nettest.NS, addr string) (port int) {
	t.Helper()
	f := familyOf(net.ParseIP(addr))
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var optErr error
		err := raw.Control(func(fd uintptr) {
			if f == v6 {
				optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			} else {
				optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
		})
		return errors.Join(err, optErr)
	}}
	var packets net.PacketConn
	must(t, ns.Do(func() (err error) {
		packets, err = config.ListenPacket(context.Background(), fmt.Sprintf("udp%d", f), join(anyAddress(f), 0))
		return err
	}))
	t.Cleanup(func() { _ = packets.Close() })
	conn := packets.(*net.UDPConn)
	go echoByPktinfo(conn)
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func echoByPktinfo(conn *net.UDPConn) {
	buf, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, controls, _, peer, err := conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		source, err := replyFrom(control[:controls])
		if err != nil {
			continue
		}
		answer := fmt.Appendf(nil, "%s\n%s", netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), buf[:n])
		_, _, _ = conn.WriteMsgUDPAddrPort(answer, source, peer)
	}
}

// replyFrom turns what a packet came with into what its answer goes with: the
// address is its source, and no NIC is named.
func replyFrom(control []byte) ([]byte, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for _, message := range messages {
		switch {
		case message.Header.Level == unix.IPPROTO_IP && message.Header.Type == unix.IP_PKTINFO:
			// struct in_pktinfo: ifindex, spec_dst, addr
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(message.Data[8:12])}), nil
		case message.Header.Level == unix.IPPROTO_IPV6 && message.Header.Type == unix.IPV6_PKTINFO:
			// struct in6_pktinfo: addr, ifindex
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(message.Data[:16])}), nil
		}
	}
	return nil, errors.New("no PKTINFO")
}
