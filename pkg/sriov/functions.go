package sriov

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Functions returns every network controller of the node's PCI bus: VFs, PFs,
// and NICs without SR-IOV, by PCI address. One that comes or goes meanwhile is
// left out, so is a VF that its PF has no link to, yet or any more. VFs of one
// PF share its list of VFs: it is not to be written to.
func (s Sysfs) Functions() ([]Function, error) {
	scan, err := s.scan()
	if err != nil || scan == nil { // a machine may have no PCI bus
		return nil, err
	}
	defer scan.bus.close()
	addresses := scan.bus.names(".")
	slices.SortFunc(addresses, func(a, b string) int {
		// Domains above ffff have more digits.
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
	var all []Function
	for _, pci := range addresses {
		f, readErr := scan.function(pci)
		if readErr != nil {
			return nil, readErr
		}
		if f != nil {
			all = append(all, *f)
		}
	}
	return all, scan.bus.err
}

// Function returns the network controller at a PCI address. Errors are
// Invalid if there is none.
func (s Sysfs) Function(pci string) (*Function, error) {
	pci, err := NormalPCI("device", pci)
	if err != nil {
		return nil, err
	}
	scan, err := s.scan()
	if err != nil {
		return nil, err
	}
	var f *Function
	if scan != nil {
		defer scan.bus.close()
		if f, err = scan.function(pci); err != nil {
			return nil, err
		}
	}
	switch {
	case f != nil:
		return f, nil
	case !s.has(pci):
		return nil, network.Invalid.Errorf("sriov: device %s: the node has no such PCI device; see with `multiplexerd devices` which it has", pci)
	case s.isNIC(pci):
		return nil, network.Invalid.Errorf("sriov: device %s: its PF has no virtfn link to it: it is coming or going; see with `multiplexerd devices` whether it is there", pci)
	default:
		return nil, network.Invalid.Errorf("sriov: device %s is no network controller (see %s); see with `multiplexerd devices` which the node has", pci, filepath.Join(s.dir(pci), "class"))
	}
}

// noIOMMU is the name of the groups that vfio makes on a machine without an
// IOMMU.
const noIOMMU = "vfio-noiommu"

// scan is one reading of the PCI bus.
type scan struct {
	sys Sysfs
	bus *pciDir
	pfs map[string]*port
}

// port is a PF, read once for all of its VFs. Its pf is nil if it is gone.
type port struct {
	pf       *PF
	linkType string
	index    map[string]int // by the VF's PCI address
}

// scan returns nil for a machine without a PCI bus.
func (s Sysfs) scan() (*scan, error) {
	bus, err := openDir(unix.AT_FDCWD, s.devices())
	if err != nil || bus == nil {
		return nil, err
	}
	return &scan{sys: s, bus: bus, pfs: map[string]*port{}}, nil
}

// function returns nil for what is no network controller, and for what is not
// there, or not any more.
func (s *scan) function(pci string) (*Function, error) {
	dir, err := openDir(s.bus.fd, pci)
	if err != nil || dir == nil {
		return nil, err
	}
	defer dir.close()
	if !strings.HasPrefix(dir.word("class"), "0x02") {
		return nil, dir.err
	}
	f := &Function{Device: Device{PCI: pci, Index: -1, Driver: dir.linkBase("driver"), NUMA: dir.number("numa_node", -1)}}
	if ok, placeErr := s.place(dir, f); !ok {
		return nil, placeErr
	}
	f.Root = root(s.bus.link(pci))
	f.ACPIIndex = dir.word("acpi_index")
	f.RDMA = dir.names("infiniband")
	if f.IOMMUGroup = dir.linkBase("iommu_group"); f.IOMMUGroup != "" {
		f.NoIOMMU = dir.word("iommu_group/name") == noIOMMU
	}
	f.Vendor, f.Product = pciID(dir.word("vendor")), pciID(dir.word("device"))
	if f.Vendor == "" || f.Product == "" || dir.err != nil || s.bus.err != nil {
		// These go last, so what was read before was of a device that is there.
		return nil, cmp.Or(dir.err, s.bus.err)
	}
	return f, nil
}

// place finds out whose VF a function is, or that it is its own PF, and its
// network device. It says whether the function has a place.
func (s *scan) place(dir *pciDir, f *Function) (bool, error) {
	physfn := dir.linkBase("physfn")
	if physfn == "" && dir.word("sriov_vf_msix_count") != "" {
		return false, dir.err // a VF that has lost its PF, or is yet to get it
	}
	p, err := s.port(cmp.Or(physfn, f.PCI))
	if err != nil || p.pf == nil {
		return false, err
	}
	f.PF, f.LinkType = *p.pf, p.linkType
	if physfn == "" {
		f.Netdev = p.pf.Name
		return true, nil
	}
	var known bool
	if f.Index, known = p.index[f.PCI]; !known {
		return false, nil
	}
	if names := dir.names("net"); len(names) > 0 {
		f.Netdev = names[0]
		f.LinkType = cmp.Or(linkType(dir.word("net/"+f.Netdev+"/type")), f.LinkType)
	}
	return true, nil
}

// port reads a PF, or a NIC without SR-IOV.
func (s *scan) port(pci string) (*port, error) {
	if p := s.pfs[pci]; p != nil {
		return p, nil
	}
	p := &port{index: map[string]int{}}
	dir, err := openDir(s.bus.fd, pci)
	if err != nil {
		return nil, err
	}
	s.pfs[pci] = p
	if dir == nil {
		return p, nil
	}
	defer dir.close()
	pf := &PF{PCI: pci, Driver: dir.linkBase("driver"), NUMA: dir.number("numa_node", -1), Total: dir.number("sriov_totalvfs", 0)}
	if pf.Name, p.linkType, err = s.own(dir, pf); err != nil {
		return nil, err
	}
	for pf.Total > 0 {
		vf := dir.linkBase("virtfn" + strconv.Itoa(len(pf.VFs)))
		if vf == "" {
			break
		}
		p.index[vf] = len(pf.VFs)
		pf.VFs = append(pf.VFs, vf)
	}
	p.pf = pf
	return p, dir.err
}

// own returns the name of a PF's network device, and its link type.
func (s *scan) own(dir *pciDir, pf *PF) (name, link string, err error) {
	name, err = s.sys.uplink(pf.PCI)
	net := "net"
	if name == "" && pf.Driver == "virtio-pci" {
		net = virtioNet(dir)
		if names := dir.names(net); len(names) > 0 {
			name = names[0]
		}
	}
	if name == "" {
		return "", "", err
	}
	return name, linkType(dir.word(filepath.Join(net, name, "type"))), err
}

// virtioNet is where a virtio device has its network device: a level lower.
func virtioNet(dir *pciDir) string {
	for _, name := range dir.names(".") {
		if number, ok := strings.CutPrefix(name, "virtio"); ok && digits(number) {
			return filepath.Join(name, "net")
		}
	}
	return "net"
}

// digits reports whether a text is a number as sysfs counts devices.
func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// linkType names a type of linux/if_arp.h as `ip link` does, if a pod can be
// given such a device.
func linkType(number string) string {
	switch number {
	case "1":
		return "ether"
	case "32":
		return "infiniband"
	}
	return ""
}

// pciID is an ID as lspci writes it.
func pciID(text string) string { return strings.ToLower(strings.TrimPrefix(text, "0x")) }

// root returns the host bridge that a device hangs below, by the link of the
// bus to its directory: the first of the directories named pciDDDD:BB.
func root(device string) string {
	for name := range strings.SplitSeq(device, "/") {
		bridge, ok := strings.CutPrefix(name, "pci")
		domain, bus, two := strings.Cut(bridge, ":")
		if ok && two && isHex(domain) && isHex(bus) {
			return name
		}
	}
	return ""
}

func isHex(text string) bool {
	_, err := strconv.ParseUint(text, 16, 32)
	return err == nil
}
