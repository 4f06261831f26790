package sriov

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Sysfs reads PFs and VFs from a sysfs mounted at this directory, /sys on a
// node. It is the one reader for the plugin, the device plugin and the tool.
type Sysfs string

// PF is a physical function that can have VFs.
type PF struct {
	PCI    string   // address
	Name   string   // of its network device; "" while it has none here
	Driver string   // "" = none is bound
	NUMA   int      // node; -1 = the machine has none
	Total  int      // VFs it can have
	VFs    []string // PCI addresses by index
}

// Device is a PCI function: a VF, or a PF that goes to a pod itself.
type Device struct {
	PCI    string
	PF     PF     // its own for a PF
	Index  int    // of the VF in its PF; -1 for a PF
	Driver string // "" = none is bound
	NUMA   int
	// Netdev is the name of its network device, "" while it has none in the
	// node's namespace: sysfs shows a namespace its own devices only.
	Netdev string
}

// userspace reports whether the driver hands the device to a process: it has
// no network device then.
func (d *Device) userspace() bool {
	return slices.Contains([]string{"vfio-pci", "uio_pci_generic", "igb_uio"}, d.Driver)
}

// String names the function as messages do.
func (d *Device) String() string {
	if d.Index < 0 {
		return fmt.Sprintf("PF %s (%s)", d.PF.Name, d.PCI)
	}
	return fmt.Sprintf("VF %d of PF %s (%s)", d.Index, d.PF.Name, d.PCI)
}

func (s Sysfs) devices() string          { return filepath.Join(string(s), "bus", "pci", "devices") }
func (s Sysfs) dir(pci string) string    { return filepath.Join(s.devices(), pci) }
func (s Sysfs) has(pci string) bool      { return exists(s.dir(pci)) }
func (s Sysfs) driver(pci string) string { return linkBase(filepath.Join(s.dir(pci), "driver")) }

// isVF reports whether a PCI function is a VF.
func (s Sysfs) isVF(pci string) bool { return linkBase(filepath.Join(s.dir(pci), "physfn")) != "" }

// upper returns a network device of the node that stands on a device's own: a
// VLAN, a macvlan. "" = none.
func (s Sysfs) upper(d *Device) string {
	found, err := filepath.Glob(filepath.Join(s.dir(d.PCI), "net", d.Netdev, "upper_*"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return strings.TrimPrefix(filepath.Base(found[0]), "upper_")
}

// PFs returns every PF of the node that can have VFs, by PCI address.
func (s Sysfs) PFs() ([]PF, error) {
	entries, err := os.ReadDir(s.devices())
	if err != nil {
		return nil, network.IO.Errorf("read the PCI devices: %w", err)
	}
	var pfs []PF
	for _, entry := range entries {
		total, absent := s.number(entry.Name(), "sriov_totalvfs")
		if absent != nil || total == 0 || !s.isNIC(entry.Name()) {
			continue
		}
		pf, readErr := s.PF(entry.Name())
		if readErr != nil {
			return nil, readErr
		}
		pfs = append(pfs, *pf)
	}
	return pfs, nil
}

// PF returns the PF at a PCI address.
func (s Sysfs) PF(pci string) (*PF, error) {
	pf := &PF{PCI: pci, Driver: s.driver(pci), NUMA: s.numa(pci)}
	var err error
	if pf.Total, err = s.number(pci, "sriov_totalvfs"); err != nil {
		return nil, network.Invalid.Errorf("sriov: PCI device %s cannot have VFs (it has no sriov_totalvfs in %s): want a PF with SR-IOV", pci, s.dir(pci))
	}
	if pf.Name, err = s.uplink(pci); err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		vf := linkBase(filepath.Join(s.dir(pci), "virtfn"+strconv.Itoa(i)))
		if vf == "" {
			return pf, nil
		}
		pf.VFs = append(pf.VFs, vf)
	}
}

// PFByName returns the PF whose network device has this name.
func (s Sysfs) PFByName(name string) (*PF, error) {
	device := filepath.Join(string(s), "class", "net", name)
	if !exists(device) {
		return nil, network.Invalid.Errorf("sriov: master %q: the node has no network device of that name; name a PF", name)
	}
	pci := linkBase(filepath.Join(device, "device"))
	if pci == "" || !s.has(pci) {
		return nil, network.Invalid.Errorf("sriov: master %q: is no PCI device; name a PF with SR-IOV", name)
	}
	pf, err := s.PF(pci)
	if err != nil {
		return nil, fmt.Errorf("master %q: %w", name, err)
	}
	pf.Name = name // a representor's PCI device is the PF's as well
	return pf, nil
}

// VF returns the VF at a PCI address. Errors are Invalid: there is none.
func (s Sysfs) VF(pci string) (*Device, error) {
	if !s.has(pci) {
		return nil, network.Invalid.Errorf("sriov: deviceID %q: the node has no such PCI device; see its VFs with `multiplexerd vfs`", pci)
	}
	physfn := linkBase(filepath.Join(s.dir(pci), "physfn"))
	if physfn == "" {
		return nil, network.Invalid.Errorf("sriov: deviceID %q: is no VF (it has no physfn in %s)", pci, s.dir(pci))
	}
	pf, err := s.PF(physfn)
	if err != nil {
		return nil, err
	}
	index := slices.Index(pf.VFs, pci)
	if index < 0 {
		return nil, network.Invalid.Errorf("sriov: deviceID %q: its PF %s has no virtfn link to it", pci, physfn)
	}
	return s.vfOf(pf, index)
}

// vfOf returns a VF of a PF that was read just now.
func (s Sysfs) vfOf(pf *PF, index int) (*Device, error) {
	pci := pf.VFs[index]
	d := &Device{PCI: pci, PF: *pf, Index: index, Driver: s.driver(pci), NUMA: s.numa(pci)}
	var err error
	d.Netdev, err = s.netdev(pci)
	return d, err
}

// whole returns the PF as a device of its own.
func (s Sysfs) whole(pf *PF) *Device {
	return &Device{PCI: pf.PCI, PF: *pf, Index: -1, Driver: pf.Driver, NUMA: pf.NUMA, Netdev: pf.Name}
}

// netdev returns the name of a function's network device in the node's
// namespace, or "".
func (s Sysfs) netdev(pci string) (string, error) {
	names, err := s.netdevs(pci)
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

// home returns the name of a device's network device in the node's namespace,
// "" while it has none there.
func (s Sysfs) home(d *Device) (string, error) {
	if d.Index < 0 {
		return s.uplink(d.PCI)
	}
	return s.netdev(d.PCI)
}

func (s Sysfs) netdevs(pci string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir(pci), "net"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("read the network devices of %s: %w", pci, err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// uplink returns the PF's own network device: in switchdev mode its VFs'
// representors hang below the same PCI device, and say so by their port's
// name (pf0vf3, and pf0 for the host's PF on a card with a CPU of its own); the
// uplink's is p0 or there is none.
func (s Sysfs) uplink(pci string) (string, error) {
	names, err := s.netdevs(pci)
	if err != nil {
		return "", err
	}
	representor := regexp.MustCompile(`^(c\d+)?pf\d+((vf|sf)\d+)?$`)
	for _, name := range names {
		port := readWord(filepath.Join(s.dir(pci), "net", name, "phys_port_name"))
		if !representor.MatchString(port) {
			return name, nil
		}
	}
	return "", nil
}

// isNIC reports whether a PCI function is a network controller (class 02).
func (s Sysfs) isNIC(pci string) bool {
	class := readWord(filepath.Join(s.dir(pci), "class"))
	return class == "" || strings.HasPrefix(class, "0x02")
}

func (s Sysfs) numa(pci string) int {
	n, err := s.number(pci, "numa_node")
	if err != nil {
		return -1
	}
	return n
}

func (s Sysfs) number(pci, file string) (int, error) {
	return strconv.Atoi(readWord(filepath.Join(s.dir(pci), file)))
}

// readWord returns a file's text, "" if it cannot be read: sysfs answers some
// reads with an error where the driver knows nothing.
func readWord(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func linkBase(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
