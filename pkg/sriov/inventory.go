package sriov

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Inventory tells what VFs a node has, how they are and whose. It changes
// nothing and takes no lock: a row is as true as its moment.
type Inventory struct {
	Sys    Sysfs
	Kernel Kernel
	Claims Claims
	Boot   string // this boot's identity

	// Allocated says which VFs kubelet gave to a container: namespace/pod by
	// PCI address. nil = not known.
	Allocated map[string]string
	// Lives reports whether a pod's namespace is still there; nil looks for
	// it at its own path.
	Lives func(podns.Ref) bool
}

// State is whose a VF is.
type State string

// The states of a VF.
const (
	Free        State = "free"
	Allocated   State = "allocated"   // kubelet gave it to a container, whose ADD is still to come
	InPod       State = "in pod"      // it is configured for a pod that lives
	Leaked      State = "leaked"      // it was for a pod that has ended, and its release is still to come
	Quarantined State = "quarantined" // it could not be restored, and goes to nobody until it is
)

// States are all of them.
func States() []State { return []State{Free, Allocated, InPod, Leaked, Quarantined} }

// Rows returns a row for each VF of the node, for each PF that went to a pod
// itself, and for each device that a pod had and the node has no more. Rows
// come with an error too, where that is about a part of what they show.
func (i Inventory) Rows() ([]VFRow, error) {
	_, rows, err := i.Look()
	return rows, err
}

// Look returns what Rows does, and the names of all PFs, also of those
// without VFs.
func (i Inventory) Look() (pfs []string, rows []VFRow, err error) {
	s := &survey{Inventory: i, claims: map[string]*Record{}, shown: map[string]bool{}}
	if err = s.begin(); err != nil {
		return nil, nil, err
	}
	if s.host != nil {
		defer s.host.Close()
	}
	found, err := s.pfs()
	if err != nil {
		return nil, nil, err
	}
	names := map[string]string{}
	for n := range found {
		name := s.pf(&found[n])
		names[found[n].PCI] = name
		pfs = append(pfs, name)
	}
	s.vanished(names)
	return pfs, s.rows, errors.Join(s.failed...)
}

// survey is one look at the node.
type survey struct {
	Inventory
	host      Netns // nil if it cannot be asked
	all       []*Record
	claims    map[string]*Record // by PCI address
	resources map[string]string
	shown     map[string]bool
	rows      []VFRow
	failed    []error
}

// begin reads whose the VFs are. Without that every VF would look free:
// claims that nobody may read end the survey, a damaged one does not.
func (s *survey) begin() error {
	if _, err := os.ReadDir(s.Claims.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.Claims.failed(err)
	}
	var err error
	s.all, err = s.Claims.All()
	s.fail(err)
	for _, r := range s.all {
		s.claims[r.PCI] = r
	}
	s.resources, err = s.Claims.Advertised()
	s.fail(err)
	if s.host, err = s.Kernel.Open(""); err != nil {
		s.host = nil
		s.fail(fmt.Errorf("MAC addresses, VLANs and counters are not known: %w", err))
	}
	if s.Lives == nil {
		s.Lives = func(ref podns.Ref) bool { return ref.Live(s.Boot) != "" }
	}
	return nil
}

func (s *survey) fail(err error) {
	if err != nil {
		s.failed = append(s.failed, err)
	}
}

// pfs returns the node's PFs. A machine without a PCI bus has none.
func (s *survey) pfs() ([]PF, error) {
	pfs, err := s.Sys.PFs()
	if errors.Is(err, fs.ErrNotExist) && exists(string(s.Sys)) && !exists(s.Sys.devices()) {
		return nil, nil
	}
	return pfs, err
}

// pf adds the rows of a PF, and returns its name.
func (s *survey) pf(pf *PF) string {
	name := pf.Name
	if r := s.claims[pf.PCI]; name == "" && r != nil {
		name = r.Original.Netdev // where the pod has it, sysfs does not show it
	}
	if name == "" {
		name = pf.PCI
	}
	if row := s.row(s.Sys.whole(pf), name); row.State != Free {
		s.rows = append(s.rows, row)
	}
	held := s.held(pf)
	for index := range pf.VFs {
		d, err := s.Sys.vfOf(pf, index)
		s.fail(err)
		row := s.row(d, name)
		row.take(held[index])
		s.rows = append(s.rows, row)
	}
	return name
}

// held returns what the PF holds for its VFs, by index; nothing where it has
// no network device on the node or its driver does not say.
func (s *survey) held(pf *PF) map[int]*VFRow {
	if s.host == nil || pf.Name == "" || len(pf.VFs) == 0 {
		return nil
	}
	link, err := s.host.LinkByName(pf.Name)
	if err != nil {
		s.fail(fmt.Errorf("find PF %s: %w", pf.Name, err))
		return nil
	}
	vfs, counted, err := s.readVFs(link.Index, len(pf.VFs))
	if err != nil {
		s.fail(fmt.Errorf("read the VFs of PF %s: %w", pf.Name, err))
		return nil
	}
	held := map[int]*VFRow{}
	for n := range vfs {
		part := &VFRow{Admin: &vfs[n].Admin}
		if counted {
			counters := VFCounters(vfs[n].Counters)
			part.Counters = &counters
		}
		held[vfs[n].Index] = part
	}
	return held
}

// readVFs returns the VFs of a PF that has n, with counters if that can be.
func (s *survey) readVFs(pf, n int) (vfs []VF, counted bool, err error) {
	vfs, err = s.host.Counters(pf)
	if err == nil && len(vfs) >= n {
		return vfs, true, nil
	}
	// Too many for one answer: some kernels say so, others leave some out.
	plain, plainErr := s.host.VFs(pf)
	if err == nil && (plainErr != nil || len(plain) <= len(vfs)) {
		return vfs, true, nil // the driver does not say more
	}
	return plain, false, plainErr
}

// row says of a device whose it is.
func (s *survey) row(d *Device, pf string) VFRow {
	s.shown[d.PCI] = true
	row := VFRow{
		PF: pf, PFPCI: d.PF.PCI, VF: d.Index, PCI: d.PCI, Driver: d.Driver, Link: d.Netdev, NUMA: d.NUMA,
		State: Free, Resource: s.resources[d.PCI],
	}
	if d.Netdev != "" {
		row.MAC = readWord(filepath.Join(s.Sys.dir(d.PCI), "net", d.Netdev, "address"))
	}
	s.judge(&row)
	return row
}

// judge fills in the state and the pod.
func (s *survey) judge(row *VFRow) {
	if pod := s.Allocated[row.PCI]; pod != "" {
		row.State = Allocated
		row.setPod(pod)
	}
	r, err := s.claim(row.PCI)
	if err != nil { // to a pod it does not go in this state either
		row.State, row.Reason = Quarantined, "its claim "+s.Claims.path(row.PCI)+" cannot be read"
		return
	}
	if r == nil {
		path := s.Claims.foreignHolder(row.PCI)
		if path != "" && s.Lives(podns.Ref{Path: path, Boot: s.Boot}) {
			row.State, row.Reason = InPod, "given by sriov-cni (network namespace "+path+")"
		}
		return
	}
	row.setPod(r.Pod)
	row.Network, row.Container, row.Interface = r.Network, r.Container, r.IfName
	if row.MAC == "" {
		row.MAC = r.Original.MAC
	}
	if r.MAC != "" {
		row.MAC = r.MAC
	}
	switch {
	case r.Failed != "":
		row.State, row.Reason = Quarantined, r.Failed
	case s.Lives(r.Ref):
		row.State = InPod
	default:
		row.State = Leaked
	}
}

// claim returns a device's claim, nil if there is none. An error is one that
// reading all of them has told already.
func (s *survey) claim(pci string) (*Record, error) {
	if r := s.claims[pci]; r != nil || !exists(s.Claims.path(pci)) {
		return r, nil
	}
	return s.Claims.Get(pci) // damaged, or new since
}

// vanished adds the claims of devices that the node has no more: somebody
// took the VFs off their PF while pods had them.
func (s *survey) vanished(pfs map[string]string) {
	for _, r := range s.all {
		if s.shown[r.PCI] {
			continue
		}
		row := VFRow{PF: pfs[r.PF], PFPCI: r.PF, VF: r.Index, PCI: r.PCI, NUMA: -1, Resource: s.resources[r.PCI]}
		if row.PF == "" {
			row.PF = r.PF
		}
		s.judge(&row)
		row.Reason = strings.TrimPrefix(row.Reason+"; the node has no such device now", "; ")
		s.rows = append(s.rows, row)
	}
}

// Resident is Linux for a process that stays in the node's network namespace:
// it needs no right to enter one to read what is there.
type Resident struct{ Linux }

// Open implements Kernel.
func (k Resident) Open(path string) (Netns, error) {
	if path != "" {
		return k.Linux.Open(path)
	}
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &kernelNetns{path: ownNetns, ns: netns.None(), sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}}, nil
}
