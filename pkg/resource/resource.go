// Package resource is the device plugin's configuration: which of a node's
// network functions are offered as which resource, and which PFs get their
// VFs from us. It reads the file and selects; it does nothing to the node.
//
// The file is sriov-network-device-plugin's, with keys of our own. A part of it
// is taken exactly as it is written or not at all: a resource with a selector
// that is not understood, or that would take every NIC of the node, is left
// out, and so is a PF with any mistake. The other parts are served.
package resource

import "github.com/multiplexer-cni/multiplexer/pkg/sriov"

// Config is the file.
type Config struct {
	Source    string // the file's name, for messages
	Resources []Resource
	PFs       []PF
	// PFsInDoubt: part of `pfs`, or a key beside it, could not be read. What
	// PFs lacks may be wished all the same: nothing is to be undone by it.
	PFsInDoubt bool
}

// Resource is one entry of resourceList.
type Resource struct {
	Name            string // with its prefix: "intel.com/sriov"
	Selectors       []Selector
	ExcludeTopology bool
	Allocation      Policy
	AdditionalInfo  map[string]map[string]string // by PCI address, "*" = every device
}

// Policy says which devices a container preferably gets.
type Policy string

// The policies.
const (
	Pack   Policy = "pack"   // from as few PFs as can be
	Spread Policy = "spread" // from as many PFs as can be
	Near   Policy = "near"   // from one NUMA node, and there below one PCIe root
)

// Selector says which functions a resource takes: those that every list that
// is given has. At least one is given. A NIC without VFs, a PF included, is a
// function like any other.
type Selector struct {
	Vendors, Devices, Drivers []string
	PCIAddresses, ACPIIndexes []string
	PFNames, RootDevices      []PFRange
	LinkTypes                 []string
	RDMA                      bool
	VhostNet                  bool // selects nothing: adds /dev/vhost-net and /dev/net/tun
}

// PFRange is an element of pfNames or rootDevices, "ens1f0#0,2-5". It takes
// VFs, never the PF itself.
type PFRange struct {
	PF     string   // name or PCI address
	Ranges [][2]int // first and last VF; nil = every VF of the PF
}

// PF is an entry of `pfs`: how a PF gets its VFs.
type PF struct {
	Name   string // of its network device; or
	PCI    string // its address
	NumVFs int
	Driver string // that the VFs are bound to; "" = the kernel's choice
	MTU    int    // of PF and VFs; 0 = left alone
}

// Choice is a function that a resource offers.
type Choice struct {
	sriov.Function
	Resource *Resource
	Selector *Selector
}
