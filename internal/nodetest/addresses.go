package nodetest

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The ranges of the cluster. A node's are parts of podRange and podRange6.
const (
	podRange      = "10.244.0.0/16"
	podRange6     = "fd00:10:244::/48"
	serviceRanges = "10.96.0.0/16,fd00:10:96::/112"
)

// apiAddress is where each node, and each pod on it, finds the API server
// besides loopback, which no EndpointSlice may name.
const apiAddress = "172.31.255.1"

// Outside is an address of each family that is in no network of the cluster.
// They are the fabric's, see [Cluster.DoOutside].
const (
	Outside  = "203.0.113.1"
	Outside6 = "2001:db8:113::1"
)

// WireGateway and WireGateway6 lead from the first wire to the outside.
const (
	WireGateway  = "198.51.100.254"
	WireGateway6 = "2001:db8:51::fe"
)

func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// address is one that can be used at once: nobody else can have it.
func address(s string) *netlink.Addr {
	addr := &netlink.Addr{IPNet: network(netip.MustParsePrefix(s))}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}
