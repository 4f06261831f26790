package cards

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Tree is a sysfs.
type Tree struct {
	dir string

	mu        sync.Mutex
	iommu     IOMMU
	functions map[string]*function // by PCI address
	// Numbers given so far.
	groups, netdevs, rdmas, uios, virtios int
}

// IOMMU is how the machine isolates its devices.
type IOMMU int

// The sorts. With IOMMUOn every function but bridges has a group from the
// start: 1, 2, ... in the order of their coming.
const (
	IOMMUOn  IOMMU = iota
	IOMMUOff       // none: a function bound to vfio-pci has no group
	NoIOMMU        // vfio's unsafe mode: the group comes with vfio-pci, and is named vfio-noiommu
)

// Card is one PF, or another PCI function, and its VFs.
type Card struct {
	Model     Model
	PCI       string // of the PF: "0000:17:00.0"; ports of one card have one bus
	Root      string // host bridge: "pci0000:16"; "" = the one of the bus before the card's
	Name      string // of the network device: "ens1f0np0"; its VFs' are ens1f0v0, ens1f0v1
	VFs       int    // to begin with
	Total     int    // VFs that it can have; 0 = the model's default
	NUMA      int    // node; -1 = the machine has none
	ACPIIndex string // "" = none
	Switchdev bool   // each VF has a representor beside the PF's network device
}

// New begins a sysfs in a directory, which is made if need be: with a PCI bus
// that has no devices.
func New(dir string) *Tree {
	t := &Tree{dir: dir, functions: map[string]*function{}}
	for _, path := range []string{"bus/pci/devices", "bus/pci/drivers", "class/net", "devices", "kernel/iommu_groups"} {
		t.mkdir(path)
	}
	return t
}

// Dir is what stands for /sys.
func (t *Tree) Dir() string { return t.dir }

// SetIOMMU says how the machine isolates its devices. It comes before Add.
func (t *Tree) SetIOMMU(mode IOMMU) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.iommu = mode
}

// Add plugs a card in, with its driver bound, and returns its PCI address.
func (t *Tree) Add(c Card) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.functions[c.PCI] != nil {
		panic(fmt.Sprintf("cards: %s is in the tree already", c.PCI))
	}
	at := parsePCI(c.PCI)
	f := &function{Card: c, facts: c.Model.facts(), pci: c.PCI, index: -1}
	if c.Total > 0 {
		f.total = c.Total
	}
	f.parent = t.bridge(at, c.Root)
	t.functions[c.PCI] = f
	t.plug(f)
	must(t.setVFs(f, c.VFs))
	return c.PCI
}

// bridge returns the directory that a bus hangs below.
func (t *Tree) bridge(at address, root string) string {
	if root == "" {
		root = fmt.Sprintf("pci%04x:%02x", at.domain, max(at.bus-1, 0))
	}
	parent := "devices/" + root
	var domain, bus int
	if n, err := fmt.Sscanf(root, "pci%x:%x", &domain, &bus); n != 2 {
		panic(fmt.Sprintf("cards: Root %q: %v; want a host bridge such as pci0000:16", root, err))
	}
	if at.domain == domain && at.bus == bus {
		return parent
	}
	port := address{domain: domain, bus: bus, devfn: at.bus % 32 << 3}.String()
	if t.functions[port] == nil {
		f := &function{pci: port, index: -1, parent: parent, Card: Card{NUMA: -1},
			facts: facts{vendor: "8086", device: "352a", class: classBridge, driver: "pcieport"}}
		t.functions[port] = f
		t.plug(f)
	}
	return t.functions[port].path()
}

// Add512VFs plugs in two Intel E810 with two ports of 128 VFs each, on two
// NUMA nodes, and returns their four PFs.
func (t *Tree) Add512VFs() []string {
	var pfs []string
	for port := range 4 {
		pfs = append(pfs, t.Add(Card{
			Model: E810C, PCI: fmt.Sprintf("0000:%s:00.%d", []string{"17", "b1"}[port/2], port%2), NUMA: port / 2,
			Name: fmt.Sprintf("ens%df%dnp%d", 1+port/2, port%2, port%2), VFs: 128,
		}))
	}
	return pfs
}

// VFs returns the PCI addresses of a PF's VFs by index.
func (t *Tree) VFs(pf string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, vf := range t.at(pf).vfs {
		all = append(all, vf.pci)
	}
	return all
}

// Functions returns the PCI addresses of all that is plugged in, bridges too.
func (t *Tree) Functions() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for pci, f := range t.functions {
		if f.plugged {
			all = append(all, pci)
		}
	}
	slices.Sort(all)
	return all
}

// Netdev returns the name of a function's network device, which it has
// whenever its own driver is bound.
func (t *Tree) Netdev(pci string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at(pci).netdev()
}

func (t *Tree) at(pci string) *function {
	f := t.functions[strings.ToLower(pci)]
	if f == nil {
		panic(fmt.Sprintf("cards: the tree has no PCI function %q", pci))
	}
	return f
}
