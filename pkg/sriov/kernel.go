package sriov

import (
	"fmt"
	"net/netip"
)

// Kernel is what the plugin asks of the kernel besides reading sysfs. The
// tests have one that behaves like drivers which this project's test machines
// do not have; both pass the same tests.
type Kernel interface {
	// Open returns the network namespace at path; "" is the node's own.
	Open(path string) (Netns, error)
	// Rebind takes the driver off a PCI device and gives it back: its network
	// device ends, wherever it is, and a new one appears on the node.
	Rebind(pci, driver string) error
}

// Netns is a network namespace, reached through one netlink socket.
type Netns interface {
	Close()

	// Links returns the network devices, without what a PF holds for VFs.
	Links() ([]Link, error)
	// LinkByName returns one. The error is ErrNoLink if there is none.
	LinkByName(name string) (Link, error)
	// Move moves a device to another namespace, renames it and sets its MTU
	// (0 = leave alone), in one RTM_NEWLINK. The kernel takes it down.
	Move(index int, to Netns, name string, mtu int) error
	// Rename gives a device that is down another name.
	Rename(index int, name string) error
	SetMTU(index, mtu int) error
	SetMAC(index int, mac string) error
	SetUp(index int, up bool) error
	// SetFlags sets what Link.Flags shows.
	SetFlags(index int, flags uint32) error
	AddAltName(index int, name string) error
	DelAltName(index int, name string) error

	// VFs returns what a PF holds for its VFs, without counters: with them a
	// PF with hundreds of VFs does not fit into the kernel's answer.
	VFs(pf int) ([]VF, error)
	// Counters returns the same with counters.
	Counters(pf int) ([]VF, error)
	// SetVF sets one knob of one VF to what `a` says of it.
	SetVF(pf, vf int, k Knob, a Admin) error

	Addresses(index int) ([]netip.Prefix, error)
	// DefaultRoutes returns those of the main table.
	DefaultRoutes() ([]DefaultRoute, error)
	// AddAddress gives a device an address. detect: an IPv6 address is looked
	// for at the link's other nodes first, usable meanwhile, and announced by
	// the kernel when that has ended (Prepare).
	AddAddress(index int, address netip.Prefix, detect bool) error
	AddRoute(index int, route Route) error
	// Prepare makes a device of a pod announce its addresses by itself, and
	// use IPv6 addresses before their detection of duplicates ends (AddAddress).
	Prepare(name string) error
	// AllowIPv6 takes a switched-off IPv6 back for a device that gets an address.
	AllowIPv6(name string) error
	// Announce tells the link whose the addresses are: a gratuitous ARP for
	// IPv4, an unsolicited neighbour advertisement for IPv6.
	Announce(index int, mac string, addresses []netip.Addr) error
}

// Link is a network device.
type Link struct {
	Index    int
	Name     string
	AltNames []string
	MAC      string
	MTU      int
	MaxMTU   int // 0 = the kernel does not say
	Up       bool
	Carrier  bool   // IFF_RUNNING: up, and its link is
	Flags    uint32 // NOARP, PROMISC, ALLMULTI, MULTICAST: they outlast a move
	XDP      bool   // a program is attached: it outlasts a move too
	Master   int    // index of the bridge or bond that it is in, 0 = none
	PCI      string // address of its PCI function, "" = it is none
}

// IsOf reports whether the link is the PCI device's: names may change hands
// between two looks. An old kernel does not say.
func (l *Link) IsOf(pci string) bool { return l.PCI == "" || l.PCI == pci }

// LinkOf returns a PCI function's network device by the name that sysfs showed.
// ErrNoLink says that there is none of that name, or that it is another
// device's by now, as while udev names new ones.
func LinkOf(ns Netns, name, pci string) (Link, error) {
	l, err := ns.LinkByName(name)
	if err == nil && !l.IsOf(pci) {
		return Link{}, fmt.Errorf("%s: %w", name, ErrNoLink)
	}
	return l, err
}

// VF is what a PF says of one VF.
type VF struct {
	Index int
	Admin
	Counters
}

// Counters are IFLA_VF_STATS. Some drivers report zeros.
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxDropped, TxDropped uint64
}

// Route is a route of an IPAM result.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr // invalid = on the link
	MTU      int
	AdvMSS   int
	Priority int
	Table    int
	Scope    int // -1 = what fits the gateway
}

// ErrNoLink says that a namespace has no such device.
const ErrNoLink = noLink("no such network device")

type noLink string

func (e noLink) Error() string { return string(e) }
