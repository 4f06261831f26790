package routetest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// port is one end of a cable.
type port struct {
	ns        *nettest.NS
	name      string
	addresses []string // with prefix lengths
	bridge    string   // that it is a port of
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func handle(t testing.TB, ns *nettest.NS) *netlink.Handle {
	t.Helper()
	h, err := ns.Handle()
	must(t, err)
	return h
}

func link(t testing.TB, ns *nettest.NS, name string) netlink.Link {
	t.Helper()
	l, err := handle(t, ns).LinkByName(name)
	if err != nil {
		t.Fatalf("find %s in %s: %v", name, ns.Name(), err)
	}
	return l
}

// cable connects two namespaces, or one with itself, and waits until packets
// can pass.
func cable(t testing.TB, a, b port) {
	t.Helper()
	there, err := os.Open(b.ns.Path())
	must(t, err)
	defer func() { _ = there.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.name
	must(t, handle(t, a.ns).LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b.name, PeerNamespace: netlink.NsFd(there.Fd())}))
	for _, p := range []port{a, b} {
		p.raise(t)
	}
	for _, p := range []port{a, b} {
		awaitUp(t, p)
	}
}

func (p port) raise(t testing.TB) {
	t.Helper()
	l := link(t, p.ns, p.name)
	if p.bridge != "" {
		sysctl(t, p.ns, "ipv6/conf/"+p.name+"/disable_ipv6", "1") // a port speaks for itself otherwise
		must(t, handle(t, p.ns).LinkSetMaster(l, link(t, p.ns, p.bridge)))
	}
	must(t, handle(t, p.ns).LinkSetUp(l))
	addAddresses(t, p.ns, p.name, p.addresses...)
}

// awaitUp waits until a link is in operation. The kernel says so a little
// after both ends are up, and a bridge drops a port's packets before that.
func awaitUp(t testing.TB, p port) {
	t.Helper()
	for giveUp := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if link(t, p.ns, p.name).Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(giveUp) {
			t.Fatalf("%s in %s is not up after 30 s", p.name, p.ns.Name())
		}
	}
}

// addBridge makes a segment: a bridge without a voice of its own.
func addBridge(t testing.TB, ns *nettest.NS, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	no := false
	// Without an address of its own it takes one of its ports', a new one when
	// ports come and go, and the bridge plugin's CHECK minds.
	attrs.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	must(t, handle(t, ns).LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &no}))
	sysctl(t, ns, "ipv6/conf/"+name+"/disable_ipv6", "1")
	must(t, handle(t, ns).LinkSetUp(link(t, ns, name)))
}

// addAddresses gives a link addresses that can be used at once.
func addAddresses(t testing.TB, ns *nettest.NS, name string, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		must(t, handle(t, ns).AddrAdd(link(t, ns, name), &netlink.Addr{IPNet: prefix(t, address), Flags: unix.IFA_F_NODAD}))
	}
}

// addRoute adds a route by a gateway. What it sends comes from the address
// src, unless that is "".
func addRoute(t testing.TB, ns *nettest.NS, dst, gateway, src string) {
	t.Helper()
	if err := handle(t, ns).RouteAdd(&netlink.Route{Dst: prefix(t, dst), Gw: net.ParseIP(gateway), Src: net.ParseIP(src)}); err != nil {
		t.Fatalf("add route to %s by %s in %s: %v", dst, gateway, ns.Name(), err)
	}
}

// sysctl sets one below /proc/sys/net.
func sysctl(t testing.TB, ns *nettest.NS, name, value string) {
	t.Helper()
	must(t, ns.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644)
	}))
}

func readSysctl(t testing.TB, ns *nettest.NS, name string) string {
	t.Helper()
	var value []byte
	must(t, ns.Do(func() (err error) {
		value, err = os.ReadFile(filepath.Join("/proc/sys/net", name))
		return err
	}))
	return strings.TrimSpace(string(value))
}

// nft loads rules into a namespace.
func nft(t testing.TB, ns *nettest.NS, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(rules), &stderr
	// A process inherits the namespace of the thread that starts it.
	must(t, ns.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nft in %s: %v: %s", ns.Name(), err, stderr.Bytes())
	}
}

// prefix is an address with its length, as netlink takes it.
func prefix(t testing.TB, text string) *net.IPNet {
	t.Helper()
	p, err := netip.ParsePrefix(text)
	if err != nil {
		t.Fatalf("address range %q: %v", text, err)
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// join is an address and a port.
func join(addr string, port int) string { return net.JoinHostPort(addr, fmt.Sprint(port)) }

// await waits for something that must come.
func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for giveUp := time.Now().Add(30 * time.Second); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
