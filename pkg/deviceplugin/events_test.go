package deviceplugin

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestUevents(t *testing.T) {
	const vf = "/devices/pci0000:16/0000:16:02.0/0000:17:02.0"
	for _, c := range []struct {
		name    string
		message string
		want    bool
	}{
		{"a VF", "add@" + vf + "|ACTION=add|DEVPATH=" + vf + "|SUBSYSTEM=pci|PCI_CLASS=20000|PCI_ID=8086:154C|SEQNUM=1", true},
		{"a VF of InfiniBand", "bind@" + vf + "|SUBSYSTEM=pci|PCI_CLASS=20700", true},
		{"a PCI device without a class", "change@" + vf + "|SUBSYSTEM=pci", true},
		{"a disk", "add@/devices/pci0000:16/0000:16:03.0|SUBSYSTEM=pci|PCI_CLASS=10802", false},
		{"a host bridge", "add@/devices/pci0000:16/0000:16:00.0|SUBSYSTEM=pci|PCI_CLASS=60000", false},
		{"an unclassified device", "add@/devices/pci0000:16/0000:16:00.0|SUBSYSTEM=pci|PCI_CLASS=200", false},
		{"a VF's network device", "move@" + vf + "/net/ens1f0v0|SUBSYSTEM=net|INTERFACE=ens1f0v0", true},
		{"one of virtio", "add@/devices/platform/x/pci0000:00/0000:00:02.0/virtio0/net/eth0|SUBSYSTEM=net", true},
		{"a veth", "add@/devices/virtual/net/veth1234|SUBSYSTEM=net|INTERFACE=veth1234", false},
		{"a veth's queue", "add@/devices/virtual/net/veth1234/queues/rx-0|SUBSYSTEM=queues", false},
		{"an IOMMU group", "add@/devices/virtual/vfio/26|SUBSYSTEM=vfio", true},
		{"an RDMA device", "add@" + vf + "/infiniband/mlx5_2|SUBSYSTEM=infiniband", true},
		{"a software RDMA device", "add@/devices/virtual/infiniband/rxe0|SUBSYSTEM=infiniband", false},
		{"a uio device", "add@" + vf + "/uio/uio0|SUBSYSTEM=uio", true},
		{"a block device", "change@/devices/pci0000:16/nvme/nvme0/nvme0n1|SUBSYSTEM=block", false},
		{"nothing", "", false},
		{"no variables", "add@" + vf, false},
		{"udev's own", "libudev|SUBSYSTEM=net|DEVPATH=" + vf, false},
		{"the end is missing", "add@" + vf + "|SUBSYSTEM=ne", false},
	} {
		if got := concernsNICs([]byte(strings.ReplaceAll(c.message, "|", "\x00"))); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("add@/devices/pci0000:16\x00SUBSYSTEM=pci\x00"))
	f.Add([]byte{20, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4})
	f.Fuzz(func(_ *testing.T, message []byte) {
		concernsNICs(message)
		r := &routeFilter{}
		r.follow(&watched{links: map[int]bool{1: true}, candidates: map[int]bool{1: true}, addresses: map[int]bool{1: true}})
		r.cause(message)
	})
}

// kernelBed is a manager that hears the events of a network namespace of its
// own, in which this goroutine is.
type kernelBed struct {
	*Manager
	t      *testing.T
	handle *netlink.Handle
}

func newKernelBed(t *testing.T) *kernelBed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(handle.Close)
	b := &kernelBed{Manager: &Manager{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, t: t, handle: handle}
	b.pending.init()
	return b
}

// listen begins to hear, until the test ends.
func (b *kernelBed) listen() {
	b.t.Helper()
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	must(b.t, b.hear(ctx, &running, unix.NETLINK_ROUTE, routeGroups, b.routes.cause))
}

// add makes a network device, and returns its index.
func (b *kernelBed) add(link netlink.Link) int {
	b.t.Helper()
	must(b.t, b.handle.LinkAdd(link))
	made, err := b.handle.LinkByName(link.Attrs().Name)
	must(b.t, err)
	return made.Attrs().Index
}

// nic makes a network device that stands for one of a card.
func (b *kernelBed) nic(name string) int {
	b.t.Helper()
	return b.add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-wire"})
}

func link(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// requireCauses does something, and then a thing that is heard for sure. What
// was heard before that is what is wanted.
func (b *kernelBed) requireCauses(do func(), want ...string) {
	b.t.Helper()
	do()
	last, err := b.handle.LinkByName("last")
	must(b.t, err)
	must(b.t, b.handle.LinkSetMTU(last, last.Attrs().MTU-1))
	<-b.pending.signal
	got := map[string]bool{}
	for !got[causeLink] {
		for cause := range b.pending.take() {
			got[cause] = true
		}
	}
	for _, cause := range want {
		if !got[cause] {
			b.t.Errorf("heard %v, want %v", got, want)
		}
	}
	if len(got) > len(want)+1 {
		b.t.Errorf("heard %v, want %v only", got, want)
	}
}

func addr(t *testing.T, text string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(text)
	must(t, err)
	return a
}

func TestKernelEvents(t *testing.T) {
	b := newKernelBed(t)
	nic, vf, last := b.nic("nic"), b.nic("vf"), b.nic("last")
	other := b.nic("other")
	for _, index := range []int{nic, vf, other} {
		must(t, b.handle.LinkSetUp(link(index)))
	}
	b.routes.follow(&watched{links: map[int]bool{last: true}, candidates: map[int]bool{nic: true, vf: true}, addresses: map[int]bool{nic: true}})
	b.listen()
	b.requireCauses(func() {
		for range 20 { // pods come and go
			b.add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth"}, PeerName: "peer"})
			must(t, b.handle.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth"}}))
		}
		must(t, b.handle.AddrAdd(link(vf), addr(t, "192.0.2.1/24")))
		must(t, b.handle.AddrAdd(link(other), addr(t, "192.0.2.2/24")))
	})
	b.requireCauses(func() { must(t, b.handle.AddrAdd(link(nic), addr(t, "198.51.100.1/24"))) }, causeAddress)
	renewed := addr(t, "198.51.100.1/24")
	renewed.ValidLft, renewed.PreferedLft = 1000, 1000
	b.requireCauses(func() { must(t, b.handle.AddrReplace(link(nic), renewed)) }) // DHCP, again and again
	b.requireCauses(func() { must(t, b.handle.AddrDel(link(nic), addr(t, "198.51.100.1/24"))) }, causeAddress)

	route := &netlink.Route{LinkIndex: vf, Gw: net.IPv4(192, 0, 2, 254)}
	b.requireCauses(func() { must(t, b.handle.RouteAdd(route)) }, causeRoute)
	b.requireCauses(func() { must(t, b.handle.RouteReplace(route)) })
	b.requireCauses(func() { must(t, b.handle.RouteDel(route)) }, causeRoute)
	_, pods, err := net.ParseCIDR("10.0.0.0/8")
	must(t, err)
	b.requireCauses(func() { must(t, b.handle.RouteAdd(&netlink.Route{LinkIndex: vf, Dst: pods})) })
}

// What stands on a watched device, and what it is enslaved to.
func TestKernelUppers(t *testing.T) {
	for name, do := range map[string]func(b *kernelBed, nic, bridge int) error{
		"a macvlan": func(b *kernelBed, nic, _ int) error {
			return b.handle.LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv", ParentIndex: nic}, Mode: netlink.MACVLAN_MODE_BRIDGE})
		},
		"a bridge": func(b *kernelBed, nic, bridge int) error { return b.handle.LinkSetMasterByIndex(link(nic), bridge) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newKernelBed(t)
			nic, bridge := b.nic("nic"), b.add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}})
			b.routes.follow(&watched{links: map[int]bool{nic: true}})
			b.listen()
			must(t, do(b, nic, bridge))
			<-b.pending.signal // or the test hangs
			if got := b.pending.take(); !got[causeLink] {
				t.Errorf("heard %v", got)
			}
		})
	}
}

// More events than the socket holds: the manager looks at everything.
func TestLostEvents(t *testing.T) {
	b := newKernelBed(t)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	must(t, err)
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 2048))
	must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: routeGroups}))
	for range 20 {
		must(t, b.handle.LinkDel(link(b.nic("d"))))
	}
	b.routes.follow(&watched{})
	socket := os.NewFile(uintptr(fd), "netlink")
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { b.Manager.listen(ctx, socket, b.routes.cause) })
	<-b.pending.signal
	if got := b.pending.take(); !got[causeLost] {
		t.Errorf("heard %v", got)
	}
	cancel()
	must(t, socket.Close())
	running.Wait()
}
