package cards

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// function is a PCI function, plugged in or not.
type function struct {
	Card  // of its PF
	facts // its own
	pci   string
	// parent is the directory that it is in.
	parent string

	pf    *function // of a VF
	index int       // -1 = no VF
	vfs   []*function

	plugged bool
	bound   string // driver
	renamed string // its network device
	mac     string
	group   string
	virtio  string
	rdmas   []string // directories below class/ that lead to it
	inPod   bool
}

func (f *function) path() string { return filepath.Join(f.parent, f.pci) }
func (f *function) bus() string  { return "bus/pci/devices/" + f.pci }

// netdev is the name of its network device: the one that udev gives it, unless
// Rename gave another.
func (f *function) netdev() string {
	if f.linkType == 0 || f.Name == "" {
		return ""
	}
	switch {
	case f.renamed != "":
		return f.renamed
	case f.pf == nil:
		return f.Name
	default:
		return fmt.Sprintf("%sv%d", f.stem(), f.index)
	}
}

// stem is the PF's name without its port's.
func (f *function) stem() string { return regexp.MustCompile(`np\d+$`).ReplaceAllString(f.Name, "") }

// net is the directory of its network devices.
func (f *function) net() string { return filepath.Join(f.path(), f.virtio, "net") }

// plug shows a function, and binds its driver.
func (t *Tree) plug(f *function) {
	files := map[string]string{
		"vendor": "0x" + f.vendor, "device": "0x" + f.device, "class": f.class,
		"numa_node": strconv.Itoa(f.NUMA), "driver_override": "(null)",
	}
	if f.pf != nil {
		files["sriov_vf_msix_count"] = "0"
	} else if f.ACPIIndex != "" {
		files["acpi_index"] = f.ACPIIndex
	}
	if f.pf == nil && f.total > 0 {
		files["sriov_totalvfs"], files["sriov_numvfs"] = strconv.Itoa(f.total), "0"
		files["sriov_offset"], files["sriov_stride"] = strconv.Itoa(f.offset), strconv.Itoa(f.stride)
		files["sriov_vf_device"], files["sriov_drivers_autoprobe"] = f.vfDevice, "1"
	}
	t.put(f.path(), node{files: files, links: map[string]string{"subsystem": "bus/pci"}})
	if t.iommu == IOMMUOn && f.class != classBridge {
		t.join(f, "")
	}
	t.uevent(f)
	t.link(f.bus(), f.path())
	f.plugged = true
	if f.pf != nil {
		t.link(f.path()+"/physfn", f.pf.path())
		t.link(f.pf.virtfn(f.index), f.path())
		if t.read(f.pf.path()+"/sriov_drivers_autoprobe") != "1" {
			return
		}
	}
	t.bind(f, f.driver)
}

func (f *function) virtfn(index int) string { return fmt.Sprintf("%s/virtfn%d", f.path(), index) }

// uevent is the file that sums a function up.
func (t *Tree) uevent(f *function) {
	text := fmt.Sprintf("PCI_CLASS=%s\nPCI_ID=%s\nPCI_SLOT_NAME=%s", strings.TrimLeft(f.class, "0x"), strings.ToUpper(f.vendor+":"+f.device), f.pci)
	if f.bound != "" {
		text = "DRIVER=" + f.bound + "\n" + text
	}
	t.write(f.path()+"/uevent", text)
}

// unplug takes a function away in the kernel's order: the links of its PF, its
// driver, its files, its directory.
func (t *Tree) unplug(f *function) {
	if !f.plugged {
		return
	}
	for _, vf := range f.vfs {
		t.unplug(vf)
		t.remove(f.virtfn(vf.index))
	}
	f.vfs = nil
	t.remove(f.path() + "/physfn")
	t.bind(f, "")
	t.remove(f.bus())
	t.remove(f.path() + "/sriov_vf_msix_count")
	t.remove(f.path() + "/vendor")
	t.leaveGroup(f)
	t.remove(f.path())
	f.plugged = false
}

// join puts a function into an IOMMU group of its own.
func (t *Tree) join(f *function, name string) {
	t.groups++
	f.group = "kernel/iommu_groups/" + strconv.Itoa(t.groups)
	n := node{files: map[string]string{"type": "DMA"}}
	if name != "" {
		n.files["name"] = name
	}
	t.put(f.group, n)
	t.mkdir(f.group + "/devices")
	t.link(f.group+"/devices/"+f.pci, f.path())
	t.link(f.path()+"/iommu_group", f.group)
}

func (t *Tree) leaveGroup(f *function) {
	if f.group == "" {
		return
	}
	t.remove(f.path() + "/iommu_group")
	t.remove(f.group)
	f.group = ""
}
