package sriovtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// tree is a sysfs on disk: as much of it as is about PFs and VFs, with
// relative links like the kernel's. It shows the node's devices only. What
// cannot be written is a test machine's fault, and panics.
type tree string

// bus is where the PCI functions are.
const bus = "devices/pci0000:00"

func (s tree) in(path string) string      { return filepath.Join(string(s), path) }
func (s tree) dir(pci string) string      { return s.in(filepath.Join(bus, pci)) }
func (s tree) netdev(l sriov.Link) string { return filepath.Join(s.dir(l.PCI), "net", l.Name) }
func (s tree) file(dir, name, text string) {
	s.must(os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
}
func (s tree) link(target, path string) { s.must(os.Symlink(target, path)) }
func (s tree) mkdir(path string)        { s.must(os.MkdirAll(path, 0o755)) }
func (s tree) virtfn(pf string, index int) string {
	return filepath.Join(s.dir(pf), "virtfn"+strconv.Itoa(index))
}
func (s tree) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("the model's sysfs: %v", err))
	}
}

func (s tree) begin() {
	for _, dir := range []string{bus, "bus/pci/devices", "bus/pci/drivers", "class/net"} {
		s.mkdir(s.in(dir))
	}
}

// function adds a network controller.
func (s tree) function(pci, driver string) {
	s.mkdir(s.dir(pci))
	s.file(s.dir(pci), "class", "0x020000")
	s.file(s.dir(pci), "numa_node", "-1")
	s.link(filepath.Join("../../..", bus, pci), s.in("bus/pci/devices/"+pci))
	s.driver(pci, driver)
}

// driver says which is bound; without one the function has no net directory.
func (s tree) driver(pci, name string) {
	path := filepath.Join(s.dir(pci), "driver")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.must(err)
	}
	if name == "" {
		s.must(os.RemoveAll(filepath.Join(s.dir(pci), "net")))
		return
	}
	s.mkdir(s.in("bus/pci/drivers/" + name))
	s.link("../../../bus/pci/drivers/"+name, path)
}

func (s tree) pf(pci string, total int) {
	s.file(s.dir(pci), "sriov_totalvfs", strconv.Itoa(total))
}

func (s tree) vf(pf, pci string, index int) {
	s.link("../"+pf, filepath.Join(s.dir(pci), "physfn"))
	s.link("../"+pci, s.virtfn(pf, index))
}

func (s tree) remove(pf, pci string, index int) {
	s.must(os.Remove(s.virtfn(pf, index)))
	s.must(os.Remove(s.in("bus/pci/devices/" + pci)))
	s.must(os.RemoveAll(s.dir(pci)))
}

// enter shows a device on the node.
func (s tree) enter(l sriov.Link, port string) {
	dir := s.netdev(l)
	s.mkdir(dir)
	s.file(dir, "address", l.MAC)
	if port != "" {
		s.file(dir, "phys_port_name", port)
	}
	s.link("../../../"+l.PCI, filepath.Join(dir, "device"))
	s.link(filepath.Join("../..", bus, l.PCI, "net", l.Name), s.in("class/net/"+l.Name))
}

// leave hides it: the net directory stays, and is empty.
func (s tree) leave(l sriov.Link) {
	s.must(os.Remove(s.in("class/net/" + l.Name)))
	s.must(os.RemoveAll(s.netdev(l)))
}

func (s tree) address(l sriov.Link) { s.file(s.netdev(l), "address", l.MAC) }
