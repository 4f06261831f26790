package deviceplugin

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// fakeNode is the kernel of a node, whose network devices are those that its
// sysfs shows. What the node does with them is set by tests.
type fakeNode struct {
	sriov.Kernel
	sys string

	mu       sync.Mutex
	indexes  map[string]int
	masters  map[string]int
	address  map[string]netip.Prefix
	defaults map[string]sriov.DefaultRoute
	err      error
}

func (n *fakeNode) Open(string) (sriov.Netns, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &nodeNetns{node: n}, n.err
}

// change does something under the lock.
func (n *fakeNode) change(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

func (n *fakeNode) index(name string) int {
	if n.indexes == nil {
		n.indexes = map[string]int{}
	}
	if n.indexes[name] == 0 {
		n.indexes[name] = 1000 + len(n.indexes) // numbers that this machine's own devices do not have
	}
	return n.indexes[name]
}

type nodeNetns struct {
	sriov.Netns
	node *fakeNode
}

func (s *nodeNetns) Close() {}

func (s *nodeNetns) Links() ([]sriov.Link, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	names, err := os.ReadDir(filepath.Join(s.node.sys, "class", "net"))
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	var links []sriov.Link
	for _, name := range names {
		links = append(links, sriov.Link{Index: s.node.index(name.Name()), Name: name.Name(), Master: s.node.masters[name.Name()]})
	}
	return links, nil
}

func (s *nodeNetns) Addresses(index int) ([]netip.Prefix, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	for name, address := range s.node.address {
		if s.node.index(name) == index {
			return []netip.Prefix{address}, nil
		}
	}
	return nil, nil
}

func (s *nodeNetns) DefaultRoutes() ([]sriov.DefaultRoute, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	var all []sriov.DefaultRoute
	for name, route := range s.node.defaults {
		route.Link = s.node.index(name)
		all = append(all, route)
	}
	slices.SortFunc(all, func(a, b sriov.DefaultRoute) int { return a.Link - b.Link })
	return all, nil
}
