package sriov

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// bytesOf reads hexadecimal with spaces.
func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGratuitousARP(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0xab, 0xcd}
	want := bytesOf(t, "ffffffffffff 02000000abcd 0806"+ // to everybody, from us, ARP
		"0001 0800 06 04 0001"+ // Ethernet, IPv4, six bytes, four bytes, a request
		"02000000abcd 0a37ce2e"+ // whose address it is
		"000000000000 0a37ce2e") // and which is asked for
	got := gratuitousARP(mac, netip.MustParseAddr("10.55.206.46"))
	if hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
	if mac.String() != "02:00:00:00:ab:cd" {
		t.Errorf("the caller's address is %s now", mac)
	}
}

func TestNeighbourAdvertisement(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0xab, 0xcd}
	for _, address := range []string{"fd00:55::46", "fe80::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"} {
		t.Run(address, func(t *testing.T) {
			source := netip.MustParseAddr(address)
			frame := neighbourAdvertisement(mac, source)
			raw := source.As16()
			its := hex.EncodeToString(raw[:])
			want := bytesOf(t, "333300000001 02000000abcd 86dd"+ // to all nodes, from us, IPv6
				"60000000 0020 3a ff"+ // 32 bytes of ICMPv6, which no router passed on
				its+"ff020000000000000000000000000001"+
				"88 00 0000 20000000"+ // advertisement, its checksum, override
				its+"0201 02000000abcd") // target, and its link-layer address
			const sumAt = 14 + 40 + 2
			copy(want[sumAt:], frame[sumAt:sumAt+2])
			if hex.EncodeToString(frame) != hex.EncodeToString(want) {
				t.Fatalf("\n got %x\nwant %x", frame, want)
			}
			checkSum(t, frame[14:])
		})
	}
}

// checkSum verifies the checksum of an ICMPv6 packet: by its definition, and
// by making the message again with a library that knows how.
func checkSum(t *testing.T, packet []byte) {
	t.Helper()
	header, err := ipv6.ParseHeader(packet)
	if err != nil {
		t.Fatal(err)
	}
	message := packet[ipv6.HeaderLen:]
	if header.PayloadLen != len(message) || header.NextHeader != 58 || header.HopLimit != 255 {
		t.Errorf("header %v before %d bytes", header, len(message))
	}
	// The sum over all, its own field included, is all ones (RFC 1071).
	all := append(append(append([]byte{}, header.Src...), header.Dst...), 0, 0, 0, byte(len(message)), 0, 0, 0, 58)
	all = append(all, message...)
	sum := 0
	for i := 0; i < len(all); i += 2 {
		if sum += int(binary.BigEndian.Uint16(all[i:])); sum > 0xffff {
			sum -= 0xffff
		}
	}
	if sum != 0xffff {
		t.Errorf("the sum over all is %#x", sum)
	}
	parsed, err := icmp.ParseMessage(58, message)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.Marshal(icmp.IPv6PseudoHeader(header.Src, header.Dst))
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Type != ipv6.ICMPTypeNeighborAdvertisement || hex.EncodeToString(again) != hex.EncodeToString(message) {
		t.Errorf("%v\n got %x\nwant %x", parsed.Type, message, again)
	}
}

func TestChecksum(t *testing.T) {
	for text, want := range map[string]uint16{
		"":                        0xffff,
		"0000":                    0xffff,
		"ffff":                    0x0000,
		"ffff 0001":               0xfffe,
		"0001 f203 f4f5 f6f7":     0x220d, // RFC 1071 section 3: the sum is ddf2
		strings.Repeat("ff", 400): 0x0000,
	} {
		if got := checksum(bytesOf(t, text)); got != want {
			t.Errorf("%s: got %#x, want %#x", text, got, want)
		}
	}
}

func TestNetworkOrder(t *testing.T) {
	if got := binary.NativeEndian.AppendUint16(nil, bigEndian(0x88a8)); got[0] != 0x88 || got[1] != 0xa8 {
		t.Errorf("in memory: %x", got)
	}
}
