package nettest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNamespaceIsItsOwn(t *testing.T) {
	ns := Namespace(t, "nstest-")
	handle, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	links, err := handle.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Attrs().Name != "lo" || links[0].Attrs().RawFlags&unix.IFF_UP == 0 {
		t.Errorf("a new namespace has links %v, want lo alone, up", links)
	}
	// The process itself stays where it was.
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var inside string
	if err = ns.Do(func() error {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if inside == own {
		t.Error("Do ran outside of the namespace")
	}
}

// A function that ends its goroutine must not hang its caller, and one that
// starts on the main thread must not change the process's namespace.
func TestDoSurvivesItsFunction(t *testing.T) {
	ns := Namespace(t, "nstest-")
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errGoexit) {
		t.Errorf("Do = %v, want %v", err, errGoexit)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := ns.Do(func() error {
				if unix.Gettid() == unix.Getpid() {
					t.Error("Do ran on the main thread")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestReplaceChangesTheCookie(t *testing.T) {
	ns := Namespace(t, "nstest-")
	addVeth(t, ns, "a", "b")
	first, err := ns.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ns.Cookie()
	if err != nil || again != first {
		t.Errorf("second Cookie = %d, %v, want %d", again, err, first)
	}
	if err = ns.Replace(); err != nil {
		t.Fatal(err)
	}
	second, err := ns.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	if first == second || second == 0 {
		t.Errorf("cookie was %d and is %d after Replace", first, second)
	}
	handle, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = handle.LinkByName("a"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("find link of the replaced namespace: %v, want not found", err)
	}
}

// What a removed namespace leaves in others must be gone at once: leak tests
// take their snapshot right after it.
func TestCloseRemovesPeersAtOnce(t *testing.T) {
	node, pod := HostNode(t), Namespace(t, "nstest-")
	for _, name := range []string{"eth0", "net1", "net2"} {
		addPair(t, node.NS, "h-"+name, pod, name)
	}
	if err := pod.Close(); err != nil {
		t.Fatal(err)
	}
	if got := linkNames(t, node.NS); len(got) != 1 {
		t.Errorf("node has links %v after the pod's end", got)
	}
	if err := pod.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Somebody else, such as the test itself, may take the namespace away.
func TestCloseAfterOthers(t *testing.T) {
	unmounted := Namespace(t, "nstest-")
	if err := unix.Unmount(unmounted.Path(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := unmounted.Close(); err != nil {
		t.Errorf("Close of an unmounted namespace: %v", err)
	}
	removed := Namespace(t, "nstest-")
	if err := unix.Unmount(removed.Path(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(removed.Path()); err != nil {
		t.Fatal(err)
	}
	if err := removed.Close(); err != nil {
		t.Errorf("Close of a removed namespace: %v", err)
	}
}

func TestNamespacesSideBySide(t *testing.T) {
	// Other test processes make namespaces too.
	prefix := Namespace(t, "nstest-").Name() + "-"
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ns, err := NewNS(prefix)
			if err != nil {
				t.Error(err)
				return
			}
			if err = ns.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// addVeth makes a pair with both ends in one namespace.
func addVeth(tb testing.TB, ns *NS, a, b string) {
	tb.Helper()
	addPair(tb, ns, a, ns, b)
}

// addPair makes a pair between two namespaces, both ends up. The addresses go
// to the left and the right end by turns.
func addPair(tb testing.TB, left *NS, a string, right *NS, b string, addrs ...string) {
	tb.Helper()
	lh, err := left.Handle()
	if err != nil {
		tb.Fatal(err)
	}
	rh, err := right.Handle()
	if err != nil {
		tb.Fatal(err)
	}
	peer, err := os.Open(right.Path())
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	err = lh.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a},
		PeerName:      b,
		PeerNamespace: netlink.NsFd(peer.Fd()),
	})
	if err != nil {
		tb.Fatal(err)
	}
	for i, handle := range []*netlink.Handle{lh, rh} {
		bringUp(tb, handle, []string{a, b}[i])
		for j := i; j < len(addrs); j += 2 {
			addAddr(tb, handle, []string{a, b}[i], addrs[j])
		}
	}
}

func bringUp(tb testing.TB, handle *netlink.Handle, name string) {
	tb.Helper()
	link, err := handle.LinkByName(name)
	if err != nil {
		tb.Fatal(err)
	}
	if err = handle.LinkSetUp(link); err != nil {
		tb.Fatal(err)
	}
}

func addAddr(tb testing.TB, handle *netlink.Handle, name, cidr string) {
	tb.Helper()
	link, err := handle.LinkByName(name)
	if err != nil {
		tb.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		tb.Fatal(err)
	}
	if err = handle.AddrAdd(link, addr); err != nil {
		tb.Fatal(err)
	}
}

func linkNames(tb testing.TB, ns *NS) []string {
	tb.Helper()
	counters, err := ns.Counters()
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for name := range counters {
		names = append(names, name)
	}
	return names
}
