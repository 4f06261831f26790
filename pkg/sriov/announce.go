package sriov

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Prepare implements Netns.
func (n *kernelNetns) Prepare(name string) error {
	return n.sysctl(name, map[string]string{
		"ipv4/conf/IF/arp_notify":     "1",
		"ipv6/conf/IF/ndisc_notify":   "1",
		"ipv6/conf/IF/optimistic_dad": "1",
	})
}

// AllowIPv6 implements Netns.
func (n *kernelNetns) AllowIPv6(name string) error {
	return n.sysctl(name, map[string]string{"ipv6/conf/IF/disable_ipv6": "0"})
}

// sysctl sets settings of a device. What the kernel does not have is left out.
func (n *kernelNetns) sysctl(name string, settings map[string]string) error {
	return podns.Within(n.path, func() error {
		for key, value := range settings {
			path := filepath.Join("/proc/sys/net", strings.Replace(key, "IF", name, 1))
			if err := os.WriteFile(path, []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set %s to %s: %w", path, value, err)
			}
		}
		return nil
	})
}

// Announce implements Netns. The frames are made here and sent by the device
// itself: a socket for ICMPv6 would choose the device by its routes, and the
// pod has others.
func (n *kernelNetns) Announce(index int, mac string, addresses []netip.Addr) error {
	hardware, err := net.ParseMAC(mac)
	if err != nil || len(hardware) != 6 {
		return nil //nolint:nilerr // no Ethernet: nobody asks for its address by ARP
	}
	return podns.Within(n.path, func() error {
		socket, sockErr := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if sockErr != nil {
			return fmt.Errorf("open a packet socket: %w", sockErr)
		}
		defer unix.Close(socket)
		for _, address := range addresses {
			frame := gratuitousARP(hardware, address)
			if address.Is6() {
				frame = neighbourAdvertisement(hardware, address)
			}
			if sendErr := unix.Sendto(socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); sendErr != nil {
				return fmt.Errorf("send the announcement of %s: %w", address, sendErr)
			}
		}
		return nil
	})
}

// gratuitousARP is an ARP announcement: a request in which sender and target
// are the address itself (RFC 5227 section 3).
func gratuitousARP(mac net.HardwareAddr, address netip.Addr) []byte {
	broadcast := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame := ethernet(broadcast, mac, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, lengths of both, request
	frame = append(frame, mac...)
	frame = append(frame, address.AsSlice()...)
	frame = append(frame, make([]byte, 6)...)
	return append(frame, address.AsSlice()...)
}

// neighbourAdvertisement is an unsolicited one with the override flag, to all
// nodes of the link (RFC 4861 sections 4.4 and 7.2.6).
func neighbourAdvertisement(mac net.HardwareAddr, address netip.Addr) []byte {
	const (
		headerSize = 40
		icmpv6     = 58
		hopLimit   = 255
	)
	source, allNodes := address.As16(), netip.MustParseAddr("ff02::1").As16()
	message := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // type, code, checksum, override
	message = append(message, source[:]...)
	message = append(message, 2, 1) // target link-layer address, in units of 8 bytes
	message = append(message, mac...)

	pseudo := append(source[:], allNodes[:]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(pseudo, 0, 0, 0, icmpv6)
	binary.BigEndian.PutUint16(message[2:], checksum(append(pseudo, message...)))

	frame := ethernet([]byte{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6)
	header := make([]byte, 0, headerSize)
	header = append(header, 0x60, 0, 0, 0)
	header = binary.BigEndian.AppendUint16(header, uint16(len(message)))
	header = append(header, icmpv6, hopLimit)
	header = append(header, source[:]...)
	header = append(header, allNodes[:]...)
	return append(append(frame, header...), message...)
}

func ethernet(to, from net.HardwareAddr, kind uint16) []byte {
	frame := append(append([]byte{}, to...), from...)
	return binary.BigEndian.AppendUint16(frame, kind)
}

// checksum is the Internet's (RFC 1071), of an even number of bytes.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// bigEndian returns a number whose bytes in memory are in network order.
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
