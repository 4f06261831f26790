package sriovtest

import (
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Namespaces are real ones for the pods of models. A model keeps nothing in
// them, so that one serves again, unless a pod ended it.
type Namespaces struct {
	t    testing.TB
	mu   sync.Mutex
	free []*nettest.NS
}

// NewNamespaces makes none yet. The end of the test removes them.
func NewNamespaces(t testing.TB) *Namespaces {
	t.Helper()
	nettest.RequireRoot(t)
	n := &Namespaces{t: t}
	t.Cleanup(func() {
		for _, ns := range n.free {
			n.remove(ns)
		}
	})
	return n
}

func (n *Namespaces) remove(ns *nettest.NS) {
	if err := ns.Close(); err != nil {
		n.t.Errorf("remove namespace %s: %v", ns.Name(), err)
	}
}

func (n *Namespaces) take(t testing.TB) *nettest.NS {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.free) - 1; last >= 0 {
		ns := n.free[last]
		n.free = n.free[:last]
		return ns
	}
	ns, err := nettest.NewNS("pod-")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func (n *Namespaces) give(ns *nettest.NS) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free = append(n.free, ns)
}

// OnModel is the ground of a model.
func OnModel(t testing.TB, m *Model, n *Namespaces) Ground {
	t.Helper()
	return Ground{
		Sys: m.Sys(), Kernel: m, PFPCI: m.pf.pci, Driver: m.Name, VF: m.VF, Cannot: m.Cannot(), Guards: m.MACRefusal != 0,
		NewPod: func() (path string, end func()) {
			ns, ended := n.take(t), false
			t.Cleanup(func() {
				if !ended {
					n.give(ns)
				}
			})
			return ns.Path(), func() {
				ended = true
				n.remove(ns)
				m.End(ns.Path())
			}
		},
		RemoveVFs: m.RemoveVFs,
		MakeVFs:   m.MakeVFs,
		Bind: func(pci, driver string) error {
			err := m.Bind(pci, driver)
			if driver == m.VF {
				time.Sleep(2 * m.Probe)
			}
			return err
		},
	}
}
