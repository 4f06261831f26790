package cards

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// bind changes a function's driver, and the devices that drivers make.
func (t *Tree) bind(f *function, driver string) {
	if f.bound != "" {
		t.unbind(f)
	}
	f.bound = driver
	if driver != "" {
		bus := "bus/pci/drivers/" + driver
		if _, err := os.Lstat(t.in(bus)); err != nil {
			t.put(bus, node{files: map[string]string{"bind": "", "unbind": "", "new_id": ""}})
		}
		if driver == VFIO && t.iommu == NoIOMMU {
			t.join(f, "vfio-noiommu")
		}
		t.link(bus+"/"+f.pci, f.path())
		t.link(f.path()+"/driver", bus)
	}
	if f.plugged {
		t.uevent(f)
	}
	switch driver {
	case UIOGeneric, IGBUIO:
		name := "uio" + strconv.Itoa(t.uios)
		t.uios++
		path := f.path() + "/uio/" + name
		t.put(path, node{files: map[string]string{"name": driver}, links: map[string]string{"device": f.path()}})
		t.class("uio", path)
	case f.driver:
		t.showDevices(f)
	}
}

// unbind ends what a driver made.
func (t *Tree) unbind(f *function) {
	if f.bound == f.driver {
		for _, vf := range f.vfs { // the representors are the PF's driver's
			t.represent(f, vf.index, false)
		}
		t.hideNetdev(f, f.netdev())
	}
	t.hideRDMA(f)
	for _, sub := range []string{"net", "infiniband", "infiniband_verbs", "infiniband_mad", "uio"} {
		t.unclass(f.path() + "/" + sub)
		t.remove(f.path() + "/" + sub)
	}
	if f.virtio != "" {
		t.remove(f.path() + "/" + f.virtio)
		f.virtio = ""
	}
	if f.bound == VFIO && t.iommu == NoIOMMU {
		t.leaveGroup(f)
	}
	t.remove(f.path() + "/driver")
	t.remove("bus/pci/drivers/" + f.bound + "/" + f.pci)
	f.bound, f.inPod = "", false
}

// showDevices makes the network and RDMA devices of a function, unless they
// are there, or in a pod, or their driver is not bound.
func (t *Tree) showDevices(f *function) {
	if f.bound != f.driver || f.netdev() == "" {
		return
	}
	if f.Model == Virtio && f.virtio == "" {
		f.virtio = "virtio" + strconv.Itoa(t.virtios)
		t.virtios++
		t.put(f.path()+"/"+f.virtio, node{files: map[string]string{"vendor": "0x1af4", "device": "0x0001"}})
	}
	port := ""
	if f.ports {
		port = fmt.Sprintf("p%d", parsePCI(f.pci).devfn&7)
	}
	if !f.inPod {
		t.showNetdev(f, f.netdev(), port)
	}
	if f.rdma && len(f.rdmas) == 0 {
		t.showRDMA(f)
	}
	for _, vf := range f.vfs {
		t.represent(f, vf.index, true)
	}
}

func (t *Tree) showNetdev(f *function, name, port string) {
	path := f.net() + "/" + name
	if _, err := os.Lstat(t.in(path)); err == nil {
		return
	}
	t.netdevs++
	index := strconv.Itoa(t.netdevs + 1)
	mac := fmt.Sprintf("02:00:00:00:%02x:%02x", t.netdevs>>8, t.netdevs&0xff)
	if f.linkType == infiniband {
		mac = "00:00:10:29:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:" + mac[len(mac)-5:]
	}
	if name == f.netdev() {
		if f.mac == "" {
			f.mac = mac
		}
		mac = f.mac
	}
	n := node{files: map[string]string{
		"address": mac, "type": strconv.Itoa(f.linkType), "ifindex": index, "mtu": "1500", "operstate": "up",
		"uevent": "INTERFACE=" + name + "\nIFINDEX=" + index,
	}, links: map[string]string{"device": filepath.Dir(f.net())}}
	if port != "" {
		n.files["phys_port_name"] = port
	}
	if f.Switchdev && f.pf == nil {
		n.files["phys_switch_id"] = strings.ReplaceAll(f.pci[5:10], ":", "")
	}
	t.put(path, n)
	t.class("net", path)
}

// hideNetdev leaves the net directory, empty.
func (t *Tree) hideNetdev(f *function, name string) {
	if name == "" {
		return
	}
	t.remove("class/net/" + name)
	t.remove(f.net() + "/" + name)
}

// represent shows or hides what stands for a VF in the PF's switch.
func (t *Tree) represent(f *function, index int, show bool) {
	if !f.Switchdev {
		return
	}
	port := fmt.Sprintf("pf%dvf%d", parsePCI(f.pci).devfn&7, index)
	name := f.stem() + "n" + port
	if !show {
		t.hideNetdev(f, name)
	} else if f.bound == f.driver {
		t.showNetdev(f, name, port)
	}
}

// class links a device below class/, by its directory's name.
func (t *Tree) class(class, path string) {
	t.mkdir("class/" + class)
	t.link("class/"+class+"/"+filepath.Base(path), path)
}

// unclass takes away the links to what is in a directory, whose name is the
// class's.
func (t *Tree) unclass(dir string) {
	entries, err := os.ReadDir(t.in(dir))
	if err != nil {
		return // there is none
	}
	for _, entry := range entries {
		t.remove(filepath.Join("class", filepath.Base(dir), entry.Name()))
	}
}
