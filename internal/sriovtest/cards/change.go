package cards

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SetVFs is a write to sriov_numvfs. As the kernel, it answers ERANGE if the
// PF cannot have so many, and EBUSY if the number changes otherwise than by
// way of 0. VFs get their driver unless sriov_drivers_autoprobe says 0.
func (t *Tree) SetVFs(pf string, number int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setVFs(t.at(pf), number)
}

func (t *Tree) setVFs(f *function, number int) error {
	switch {
	case number == len(f.vfs):
		return nil
	case number < 0 || number > f.total || f.pf != nil:
		return unix.ERANGE
	case number > 0 && len(f.vfs) > 0:
		return unix.EBUSY
	}
	for _, vf := range f.vfs {
		t.represent(f, vf.index, false)
		t.remove(f.virtfn(vf.index))
		t.unplug(vf)
		delete(t.functions, vf.pci)
	}
	f.vfs = nil
	for index := range number {
		vf := &function{Card: f.Card, facts: f.facts, pci: f.vf(index).String(), parent: f.parent, pf: f, index: index}
		if t.functions[vf.pci] != nil {
			panic(fmt.Sprintf("cards: VF %d of %s is at %s, which another function has: give its card another bus, or less VFs (Total)", index, f.pci, vf.pci))
		}
		vf.device, vf.driver, vf.ports = f.vfDevice, f.vfDriver, false
		f.vfs = append(f.vfs, vf)
		t.functions[vf.pci] = vf
		t.plug(vf)
		t.represent(f, index, true)
	}
	t.write(f.path()+"/sriov_numvfs", strconv.Itoa(number))
	return nil
}

// Remove takes a function away, with its VFs: a hot unplug. A VF's PF keeps
// its virtfn link, which then leads nowhere.
func (t *Tree) Remove(pci string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(pci)
	for _, vf := range f.vfs {
		delete(t.functions, vf.pci)
		t.represent(f, vf.index, false)
	}
	t.unplug(f)
}

// Replug brings back what Remove took: a VF with its old index, a PF without
// VFs.
func (t *Tree) Replug(pci string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(pci)
	if f.plugged {
		panic(fmt.Sprintf("cards: %s was not removed", pci))
	}
	if f.pf != nil {
		t.remove(f.pf.virtfn(f.index))
	}
	f.inPod = false
	t.plug(f)
}

// Bind gives a function another driver, "" = none. Its own driver, and only
// that, makes network and RDMA devices; uio drivers make uioN.
func (t *Tree) Bind(pci, driver string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bind(t.at(pci), driver)
}

// Hide takes a function's network device out of sight: it is in a pod.
func (t *Tree) Hide(pci string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(pci)
	f.inPod = true
	t.hideNetdev(f, f.netdev())
}

// HideRDMA takes a function's RDMA devices out of sight, as those of a pod
// are where RDMA devices belong to one namespace (rdma system netns exclusive).
func (t *Tree) HideRDMA(pci string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hideRDMA(t.at(pci))
}

// Show brings a function's network and RDMA devices back from a pod.
func (t *Tree) Show(pci string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(pci)
	f.inPod = false
	t.showDevices(f)
}

// Rename gives a function's network device another name.
func (t *Tree) Rename(pci, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(pci)
	t.hideNetdev(f, f.netdev())
	f.renamed = name
	t.showDevices(f)
}

func (t *Tree) read(path string) string {
	text, err := os.ReadFile(t.in(path))
	must(err)
	return strings.TrimSpace(string(text))
}
