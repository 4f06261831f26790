package sriovguest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// What a pod with CAP_NET_ADMIN leaves on its VF is in nobody's way: not in its
// own DEL's, and not in the next pod's.
func TestHostilePod(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	pf := m.pfs[0]
	m.network("peer", obj{"type": "sriov", "deviceID": pf.VFs[0], "ipam": m.ipamFrom("10.56.24.0/24", "10.56.24.100")})
	m.network("one", obj{"type": "sriov", "deviceID": pf.VFs[1], "ipam": m.ipam("10.56.24.0/24")})
	peer := m.pod("peer").add()
	for name, mischief := range map[string]func(*pod){
		"a name of the node's": func(p *pod) {
			p.inPod("ip", "link", "property", "add", "dev", "net1", "altname", m.pfs[1].Name)
		},
		"flags": func(p *pod) {
			p.inPod("ip", "link", "set", "net1", "arp", "off", "multicast", "off", "promisc", "on", "allmulticast", "on")
		},
		"a program": func(p *pod) { p.attachProgram() },
		"the spare name": func(p *pod) {
			p.inPod("ip", "link", "set", "net1", "down")
			p.inPod("ip", "link", "set", "net1", "name", "vf01102")
			m.must(p.netns.Close())
			p.late()
		},
	} {
		p := m.pod("one").add()
		mischief(p)
		p.do("DEL")
		next := m.pod("one").add()
		link := next.inPod("ip", "-d", "link", "show", "net1")
		for _, left := range []string{"NOARP", "PROMISC", "ALLMULTI", "xdp"} {
			if strings.Contains(link, left) {
				t.Errorf("%s: the next pod has %s: %s", name, left, link)
			}
		}
		next.ping("net1", peer.address("net1"))
		detach(next)
	}
	detach(peer)
}

// attachProgram puts an XDP program that lets everything pass on net1.
func (p *pod) attachProgram() {
	p.t.Helper()
	program := []uint64{0x00000002000000b7, 0x95} // r0 = XDP_PASS; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, size       uint32
		program, license uint64
		rest             [8]uint64
	}{
		kind: unix.BPF_PROG_TYPE_XDP, size: uint32(len(program)),
		program: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	const upToLog = 48
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), upToLog)
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		p.t.Fatalf("load a program: %v", errno)
	}
	defer unix.Close(int(fd))
	p.must(podns.Within(p.netns.Path(), func() error {
		link, err := netlink.LinkByName("net1")
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(link, int(fd), nl.XDP_FLAGS_SKB_MODE)
	}))
	contains(p.t, p.inPod("ip", "-d", "link", "show", "net1"), "xdp")
}

// sriov-cni sees that our pod's namespace has ended, and is faster than our
// DEL: the VF stays with its pod, and with its settings.
func TestSRIOVCNIIsFaster(t *testing.T) {
	m := newMachine(t)
	t.Cleanup(func() { m.must(os.RemoveAll(foreign)) })
	m.leavesNothing()
	allocation := filepath.Join(foreign, "pci", m.pfs[0].VFs[5])
	m.must(os.MkdirAll(filepath.Dir(allocation), 0o700))
	pci, pf := m.pfs[0].VFs[5], m.pfs[0].Name
	dev := m.netdev(pci)
	m.network("ours", obj{"type": "sriov", "deviceID": pci, "vlan": 7})
	a := m.pod("ours").add()
	m.must(a.netns.Close())
	m.eventually("the VF is back", func() error {
		entries, err := os.ReadDir("/sys/bus/pci/devices/" + pci + "/net")
		if err == nil && len(entries) == 0 {
			err = os.ErrNotExist
		}
		return err
	})
	b := m.pod("")
	m.onNode("ip", "link", "set", pf, "vf", "5", "vlan", "99")
	m.onNode("ip", "link", "set", m.netdev(pci), "down", "netns", b.netns.Name(), "name", "net9")
	m.must(os.WriteFile(allocation, []byte(b.netns.Path()), 0o600))

	contains(t, m.pod("ours").refused("ADD").Msg, "a pod of sriov-cni")
	a.late()
	contains(t, b.inPod("ip", "link", "show", "net9"), "net9")
	contains(t, m.onNode("ip", "link", "show", pf), "vlan 99")
	if told, err := os.ReadFile(allocation); err != nil || string(told) != b.netns.Path() {
		t.Errorf("the allocation: %q, %v", told, err)
	}
	// As sriov-cni's own DEL does.
	b.inPod("ip", "link", "set", "net9", "netns", m.node.Name(), "name", dev)
	m.onNode("ip", "link", "set", pf, "vf", "5", "vlan", "0")
}

// A VF whose ended pod left it under another name is picked at the first try.
func TestPickOfALeftVF(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("any", obj{"type": "sriov", "master": m.pfs[0].Name})
	m.write("state/pools.json", obj{"pools": obj{"example.com/fast": m.pfs[0].VFs[1:]}})
	a := m.pod("any").add()
	m.must(a.netns.Close())
	b := m.pod("any").add()
	a.late()
	detach(b)
	m.must(os.Remove(m.in("state/pools.json")))
}

// A PF or VF on which a device of the node stands stays there; so does a PF
// whose VFs a device plugin advertises. While a pod has the PF, its VFs are
// nobody's.
func TestDevicesInUse(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	pf := m.pfs[1]
	m.network("whole", obj{"type": "sriov", "master": pf.Name, "pfOnly": true})
	m.network("vf", obj{"type": "sriov", "deviceID": pf.VFs[2]})
	m.onNode("ip", "link", "add", "link", pf.Name, "name", "mgmt", "type", "vlan", "id", "10")
	contains(t, m.pod("whole").refused("ADD").Msg, "PF "+pf.Name, "has mgmt of the node on it", "stays on the node")
	m.onNode("ip", "link", "del", "mgmt")
	m.onNode("ip", "link", "add", "link", m.netdev(pf.VFs[2]), "name", "child", "type", "macvlan", "mode", "bridge")
	contains(t, m.pod("vf").refused("ADD").Msg, "has child of the node on it")
	m.onNode("ip", "link", "del", "child")
	m.write("state/pools.json", obj{"pools": obj{"example.com/fast": pf.VFs[3:4]}})
	contains(t, m.pod("whole").refused("ADD").Msg, "is advertised as example.com/fast")
	m.must(os.Remove(m.in("state/pools.json")))
	whole := m.pod("whole").add()
	e := m.pod("vf").refused("ADD")
	contains(t, e.Msg, pf.PCI, "itself is held by pod default/"+strings.ToLower(whole.id))
	if e.Code != 11 {
		t.Errorf("code %d, want 11", e.Code)
	}
	detach(whole)
	back := m.onVFIO(pf.VFs[2]) // while the PF is on the node, as after a boot
	defer back()
	whole = m.pod("whole").add()
	contains(t, m.pod("vf").refused("ADD").Msg, pf.PCI, "itself is held by pod default/"+strings.ToLower(whole.id))
	detach(whole)
}

// Files that are in the way hold up no pod: a log that is a pipe without a
// reader, a claim of another VF that cannot be read. One VF for two networks of a
// pod is refused at once.
func TestFilesInTheWay(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.must(unix.Mkfifo(m.in("pipe"), 0o600))
	conf := obj{"type": "sriov", "deviceID": m.pfs[0].VFs[3], "mac": "02:00:00:00:09:09", "logFile": m.in("pipe")}
	m.network("piped", conf)
	m.must(os.MkdirAll(m.in("state/vf"), 0o700))
	damaged := m.in("state/vf/" + m.pfs[1].VFs[0] + ".json")
	m.must(os.WriteFile(damaged, []byte("{"), 0o600))
	p := m.pod("piped")
	contains(t, string(p.do("ADD").Stderr), "is no regular file", "not every claim can be read")
	p.do("DEL")
	m.network("none", obj{"type": "sriov", "deviceID": "0000:01:1f.7"})
	q := m.pod("none")
	q.refused("ADD")
	q.do("DEL")
	m.must(os.Remove(damaged))
	e := m.pod("piped, piped").refused("ADD")
	contains(t, e.Msg, "this pod has it already, as net1")
	if e.Code != 7 {
		t.Errorf("code %d, want 7: %s", e.Code, fmt.Sprint(e))
	}
}
