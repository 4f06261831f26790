package fixipam

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// subnet is a network's addresses. The zero gateway is none.
type subnet struct {
	netip.Prefix
	gateway netip.Addr
}

// parseSubnet reads ipam.subnet and ipam.gateway. Bits of the subnet behind
// its prefix are dropped, as the original did.
func parseSubnet(prefix, gateway string) (subnet, error) {
	var s subnet
	if prefix == "" {
		return s, network.Invalid.Errorf(`fixipam: ipam.subnet is missing: want the network's addresses, such as "10.55.206.0/26" or "fd00:55::/64"`)
	}
	p, err := netip.ParsePrefix(prefix)
	if err != nil || p.Addr().Is4In6() {
		return s, network.Invalid.Errorf(`fixipam: ipam.subnet %q: want ADDRESS/BITS such as "10.55.206.0/26" or "fd00:55::/64"`, clip(prefix))
	}
	s.Prefix = p.Masked()
	if s.Addr().IsMulticast() || s.Addr().IsLoopback() {
		return s, network.Invalid.Errorf("fixipam: ipam.subnet %q: want unicast addresses, neither multicast nor loopback", prefix)
	}
	if gateway == "" {
		return s, nil
	}
	g, why := parseUnicast(gateway)
	if why == "" {
		why = s.refuse(g)
	}
	if why != "" {
		return s, network.Invalid.Errorf("fixipam: ipam.gateway %q: %s; want %s", clip(gateway), why, s.legal())
	}
	s.gateway = g
	return s, nil
}

// take returns the address that is asked for, with the subnet's prefix.
func (s subnet) take(asked request) (netip.Prefix, error) {
	host, bits, written := strings.Cut(asked.value, "/")
	addr, why := parseUnicast(host)
	if why == "" {
		why = s.refuse(addr)
	}
	switch {
	case why != "":
	case written && bits != strconv.Itoa(s.Bits()):
		why = fmt.Sprintf("its prefix length is not the subnet's, /%d", s.Bits())
	case addr == s.gateway:
		why = "is the gateway (ipam.gateway)"
	default:
		return netip.PrefixFrom(addr, s.Bits()), nil
	}
	return netip.Prefix{}, network.Invalid.Errorf("fixipam: %s %q: %s; want %s", asked.key, clip(asked.value), why, s.legal())
}

// refuse says why no interface can have an address in this subnet, "" if one can.
func (s subnet) refuse(addr netip.Addr) string {
	switch {
	case !s.Contains(addr):
		return fmt.Sprintf("is outside ipam.subnet %s", s.Prefix)
	case addr.Less(s.first()):
		return fmt.Sprintf("is the network address of %s", s.Prefix)
	case s.last().Less(addr):
		return fmt.Sprintf("is the broadcast address of %s", s.Prefix)
	}
	return ""
}

// pair reports a subnet of one or two addresses: all are hosts' there, for
// point-to-point links have no network address (RFC 3021, RFC 6164).
func (s subnet) pair() bool { return s.Bits() >= s.Addr().BitLen()-1 }

func (s subnet) first() netip.Addr {
	if s.pair() {
		return s.Addr()
	}
	return s.Addr().Next()
}

// last is the last host's address. IPv6 has no broadcast.
func (s subnet) last() netip.Addr {
	raw := s.Addr().AsSlice()
	for i := s.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	end, _ := netip.AddrFromSlice(raw)
	if end.Is4() && !s.pair() {
		return end.Prev()
	}
	return end
}

// legal says what may be written.
func (s subnet) legal() string {
	text := fmt.Sprintf("%s to %s", s.first(), s.last())
	if s.first() == s.last() {
		text = s.first().String()
	}
	if s.gateway.IsValid() {
		text += fmt.Sprintf(" without the gateway %s", s.gateway)
	}
	return text
}

// parseUnicast reads an address that an interface can have, or says why it is
// none.
func parseUnicast(value string) (netip.Addr, string) {
	addr, err := netip.ParseAddr(value)
	switch {
	case err != nil:
		return addr, "is no IP address"
	case addr.Zone() != "":
		return addr, "has a zone"
	case addr.Is4In6():
		return addr, "is an IPv4 address in IPv6 form"
	case addr.IsUnspecified():
		return addr, "is the unspecified address"
	case addr.IsLoopback():
		return addr, "is a loopback address"
	case addr.IsMulticast():
		return addr, "is a multicast address"
	}
	return addr, ""
}
