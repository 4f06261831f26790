package routetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// advertised is the prefix from which routers offer addresses.
const advertised = "2001:db8:bad::/64"

// A router that advertises itself on a secondary all the time, while the NIC
// comes up too, changes nothing in the pod. A witness on the same segment
// shows that others believe it.
func TestRouterAdvertisementsChangeNothing(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		for _, seg := range w.segments() {
			witness := nettest.Namespace(t, "witness-")
			cable(t, port{ns: w.node.NS, name: seg.name + "-wit", bridge: seg.name}, port{ns: witness, name: "eth0"})
			advertise(t, seg)
			await(t, "the witness on "+seg.name+" believes the router", func() bool { return slaac(t, witness) != "" })
		}
		p := w.newPod(t, "red, blue")
		before := readSysctl(t, p.ns, "ipv6/conf/default/accept_ra") + readSysctl(t, p.ns, "ipv6/conf/default/autoconf")
		p.add(t)
		p.show(t)
		await(t, "the pod has heard the routers", func() bool { return heard(t, p.ns) >= 10 })
		if address := slaac(t, p.ns); address != "" {
			t.Errorf("the pod has an address of the router's: %s", address)
		}
		for _, route := range learnt(t, p.ns) {
			t.Errorf("the pod has a route of the router's: %s", route)
		}
		after := readSysctl(t, p.ns, "ipv6/conf/default/accept_ra") + readSysctl(t, p.ns, "ipv6/conf/default/autoconf")
		if after != before {
			t.Errorf("accept_ra and autoconf of conf/default are %s, and were %s before the ADD", after, before)
		}
		p.ok(t, "CHECK")
		p.del(t)
	})
}

// slaac returns an address that somebody took from the advertised prefix.
func slaac(t *testing.T, ns *nettest.NS) string {
	t.Helper()
	for _, addr := range addresses(t, ns) {
		if prefix(t, advertised).Contains(addr.IP) {
			return addr.IPNet.String()
		}
	}
	return ""
}

// learnt returns the routes that came by advertisements.
func learnt(t *testing.T, ns *nettest.NS) []netlink.Route {
	t.Helper()
	var out []netlink.Route
	for _, route := range routes(t, ns, unix.RT_TABLE_UNSPEC) {
		if route.Protocol == unix.RTPROT_RA || route.Dst != nil && prefix(t, advertised).Contains(route.Dst.IP) {
			out = append(out, route)
		}
	}
	return out
}

// heard is the number of advertisements that reached a namespace.
func heard(t *testing.T, ns *nettest.NS) int {
	t.Helper()
	var text []byte
	must(t, ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp6")
		return err
	}))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Icmp6InRouterAdvertisements"); ok {
			count, err := strconv.Atoi(strings.TrimSpace(value))
			must(t, err)
			return count
		}
	}
	t.Fatal("snmp6 does not count router advertisements")
	return 0
}

// advertise lets a segment's router say a hundred times a second that it is
// one, until the end of the test.
func advertise(t *testing.T, seg *segment) {
	t.Helper()
	nic := link(t, seg.ns, "lan").Attrs()
	var fd int
	must(t, seg.ns.Do(func() (err error) {
		fd, err = openRouter(nic.Index, linkLocalOf(t, seg.ns, "lan"))
		return err
	}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			allNodes := &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(nic.Index)}
			if err = unix.Sendto(fd, advertisement(nic.HardwareAddr), 0, allNodes); err == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		ended <- errors.Join(err, unix.Close(fd))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("advertise: %v", err)
		}
	})
}

// openRouter opens a socket whose packets hosts believe: from a link-local
// address, and by no router on the way (RFC 4861, 6.1.2).
func openRouter(index int, from [16]byte) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return 0, fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
		unix.Bind(fd, &unix.SockaddrInet6{Addr: from, ZoneId: uint32(index)}),
	)
}

// advertisement is a router advertisement: a default router for half an hour,
// and a prefix, on the link, to take addresses from. The kernel fills in the
// checksum.
func advertisement(mac net.HardwareAddr) []byte {
	const routerAdvertisement, sourceLinkLayer, prefixInformation = 134, 1, 3
	packet := []byte{routerAdvertisement, 0, 0, 0, 64, 0}
	packet = binary.BigEndian.AppendUint16(packet, 1800)
	packet = append(packet, make([]byte, 8)...)
	packet = append(packet, sourceLinkLayer, 1)
	packet = append(packet, mac...)
	p := netip.MustParsePrefix(advertised)
	const onLinkAutonomous = 0xc0
	packet = append(packet, prefixInformation, 4, byte(p.Bits()), onLinkAutonomous)
	packet = binary.BigEndian.AppendUint32(packet, 3600)
	packet = binary.BigEndian.AppendUint32(packet, 3600)
	packet = append(packet, make([]byte, 4)...)
	return append(packet, p.Addr().AsSlice()...)
}

func linkLocalOf(t *testing.T, ns *nettest.NS, device string) [16]byte {
	t.Helper()
	index := link(t, ns, device).Attrs().Index
	for _, addr := range addresses(t, ns) {
		if addr.LinkIndex == index && familyOf(addr.IP) == v6 && addr.IP.IsLinkLocalUnicast() {
			return [16]byte(addr.IP.To16())
		}
	}
	t.Fatalf("%s in %s has no link-local address", device, ns.Name())
	return [16]byte{}
}
