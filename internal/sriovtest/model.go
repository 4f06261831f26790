package sriovtest

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Model is a kernel with one PF. It keeps what a kernel would: who has which
// device, what the PF holds, and a sysfs on disk as the node sees it. Pods'
// namespaces are known by their paths, at which there are real ones.
type Model struct {
	Driver

	mu       sync.Mutex
	sys      tree
	spaces   map[string]*space // by path; "" is the node's
	pf       *function
	vfs      []*function
	last     int                  // index of a network device that was given out
	made     int                  // addresses that were made up
	defaults []sriov.DefaultRoute // the node's
	ended    bool
}

var _ sriov.Kernel = (*Model)(nil)

// space is a network namespace.
type space struct {
	path  string
	links []*link
	ended bool
}

// link is a network device. Its carrier follows from the rest.
type link struct {
	sriov.Link
	function  *function // nil: a PCI function's it is not
	port      string    // phys_port_name
	permanent string    // address that the VF had from its PF as it was reset
	addresses []netip.Prefix
	moved     bool // and was not up since
}

// function is a PCI function.
type function struct {
	pci    string
	index  int // -1 = the PF
	driver string
	link   *link // nil while it has none, wherever

	admin sriov.Admin // what the PF holds for it
	shown sriov.Admin // what it says of that
	fixed bool        // its address was set by the PF
	until time.Time   // busy
}

// zeroMAC is no address.
const zeroMAC = "00:00:00:00:00:00"

// NewModel makes the kernel, with the PF up and all its VFs on the node.
func NewModel(t testing.TB, d Driver) *Model {
	t.Helper()
	m := &Model{Driver: d, sys: tree(inMemory(t)), spaces: map[string]*space{"": {}}}
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ended = true
	})
	m.sys.begin()
	m.newLink("", "lo", nil)
	m.pf = &function{pci: "0000:01:00.0", index: -1, driver: d.Name}
	m.sys.function(m.pf.pci, d.Name)
	m.sys.pf(m.pf.pci, d.VFs)
	name := "ens1f0"
	if d.Switchdev {
		name = "ens1f0np0"
	}
	uplink := m.newLink("", name, m.pf)
	uplink.Up = true
	if d.Switchdev {
		m.sys.leave(uplink.Link)
		uplink.port = "p0"
		m.sys.enter(uplink.Link, uplink.port)
	}
	m.MakeVFs()
	return m
}

// Sys is the node's sysfs.
func (m *Model) Sys() sriov.Sysfs { return sriov.Sysfs(m.sys) }

// PF returns the name of the PF's network device.
func (m *Model) PF() string { return m.pf.link.Name }

// after does something once a time has passed, whoever looks meanwhile.
func (m *Model) after(d time.Duration, do func()) {
	if d == 0 {
		do()
		return
	}
	time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.ended { // the sysfs goes away with the test
			do()
		}
	})
}

// Open implements sriov.Kernel.
func (m *Model) Open(path string) (sriov.Netns, error) {
	if path != "" {
		if _, err := podns.Cookie(path); err != nil {
			return nil, network.Missing.Errorf("open network namespace %s: %w", path, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaces[path]
	if s == nil {
		s = &space{path: path}
		m.spaces[path] = s
		m.newLink(path, "lo", nil)
	}
	if s.ended {
		return nil, network.Missing.Errorf("open network namespace %s: %w", path, unix.ENOENT)
	}
	return &netns{model: m, space: s}, nil
}

// End is the end of a namespace: its PCI devices come to the node, a moment
// later, under the names that they have, or devN where the node has one.
func (m *Model) End(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaces[path]
	if s == nil || s.ended {
		return
	}
	s.ended = true
	m.after(m.HomeAfter, func() {
		for _, l := range append([]*link{}, s.links...) {
			if l.function != nil {
				m.comeHome(s, l)
			}
		}
	})
}

func (m *Model) comeHome(from *space, l *link) {
	node := m.spaces[""]
	var kept []string
	for _, name := range l.AltNames {
		if !node.inUse(name, nil) {
			kept = append(kept, name)
		}
	}
	l.AltNames = kept
	if node.inUse(l.Name, nil) {
		l.Name = fmt.Sprint("dev", l.Index)
	}
	m.transfer(l, from, node)
}

// netns is a Netns of the model.
type netns struct {
	model *Model
	space *space
}

// Close implements sriov.Netns.
func (n *netns) Close() {}
