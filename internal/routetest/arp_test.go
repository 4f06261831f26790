package routetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// whoHas asks a segment for an address once, by ARP, and returns the MACs of
// all who answer: it waits for `least` of them, and then for a time in which one
// more would come.
func whoHas(t *testing.T, ns *nettest.NS, device, from, target string, least int) []string {
	t.Helper()
	nic := link(t, ns, device).Attrs()
	var answers []string
	must(t, ns.Do(func() (err error) {
		answers, err = askARP(nic.Index, nic.HardwareAddr, netip.MustParseAddr(from).As4(), netip.MustParseAddr(target).As4(), least)
		return err
	}))
	slices.Sort(answers)
	return answers
}

func askARP(index int, mac net.HardwareAddr, from, target [4]byte, least int) ([]string, error) {
	const arp = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, arp)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	here := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: index}
	everybody := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	err = errors.Join(unix.Bind(fd, here), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Sendto(fd, arpRequest(mac, from, target), 0, everybody))
	if err != nil {
		return nil, fmt.Errorf("send ARP request: %w", err)
	}
	var answers []string
	buf := make([]byte, 128)
	for giveUp := time.Now().Add(30 * time.Second); time.Now().Before(giveUp); { // until nobody says more
		n, _, readErr := unix.Recvfrom(fd, buf, 0)
		if errors.Is(readErr, unix.EAGAIN) && len(answers) >= least {
			break
		}
		if readErr != nil && !errors.Is(readErr, unix.EAGAIN) && !errors.Is(readErr, unix.EINTR) {
			return nil, fmt.Errorf("read ARP reply: %w", readErr)
		}
		const reply = 2
		if n >= 28 && binary.BigEndian.Uint16(buf[6:]) == reply && [4]byte(buf[14:18]) == target {
			answers = append(answers, net.HardwareAddr(buf[8:14]).String())
		}
	}
	return answers, nil
}

// arpRequest is RFC 826's packet for IPv4 over Ethernet.
func arpRequest(mac net.HardwareAddr, from, target [4]byte) []byte {
	packet := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	packet = append(packet, mac...)
	packet = append(packet, from[:]...)
	packet = append(packet, make([]byte, 6)...)
	return append(packet, target[:]...)
}
