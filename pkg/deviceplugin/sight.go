package deviceplugin

import (
	"fmt"
	"maps"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// sight is what one look saw.
type sight struct {
	config    *resource.Config // nil = there is none
	unsettled bool             // another configuration than at the looks before
	functions map[string]*sriov.Function
	choices   []resource.Choice
	warnings  []resource.Problem
	blocked   map[string]string // why a selected function is not to be given away
	claims    map[string]sriov.Claim
	holders   map[string]string
	asked     time.Time       // when kubelet named them
	known     bool            // holders are
	recent    map[string]bool // devices that kubelet has just allocated
	now       time.Time
	borrowed  map[string]bool // whose RDMA devices are said to be the PF's
}

// view is what a look leaves for Run.
type view struct {
	failed  int  // looks in a row that are to be tried again, in whole or in part
	awaits  bool // a device waits for its pod to end
	holders map[string]string
	known   bool // holders are
}

func (v *view) holdersDiffer(holders map[string]string, known bool) bool {
	return known && (!v.known || !maps.Equal(holders, v.holders))
}

// freshFor is how long a device counts as a pod's after kubelet allocated it,
// until the pod can be seen.
const freshFor = 5 * time.Minute

// staleAfter is when kubelet's word about its pods is too old: it must be shorter
// than freshFor, or a device could be taken for nobody's.
const staleAfter = 4 * time.Minute

// see looks at the node.
func (m *Manager) see() (*sight, error) {
	s := &sight{now: m.Now(), functions: map[string]*sriov.Function{}, blocked: map[string]string{}, recent: map[string]bool{}, borrowed: map[string]bool{}}
	functions, err := m.Sys.Functions()
	if err != nil {
		return nil, err
	}
	if s.claims, err = m.Claims.ByDevice(); err != nil {
		return nil, err
	}
	s.holders, s.asked, s.known = m.holders()
	for i := range functions {
		s.functions[functions[i].PCI] = &functions[i]
	}
	m.recall(s)
	if s.config == nil {
		return s, nil
	}
	selection := s.config.Select(functions)
	s.choices, s.warnings = selection.Choices, selection.Warnings
	return s, m.examine(s)
}

// holders are the pods that kubelet gave devices to, and whether that is
// known, or never will be.
func (m *Manager) holders() (holders map[string]string, asked time.Time, known bool) {
	if m.Holders == nil {
		return nil, time.Time{}, true
	}
	holders, asked = m.Holders()
	if m.Now().Sub(asked) >= staleAfter {
		return nil, asked, false
	}
	return holders, asked, holders != nil
}

// recall adds what is known from before.
func (m *Manager) recall(s *sight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.config, s.unsettled = m.config.Config, m.config.unsettled
	for pci, when := range m.recent {
		if s.settled(pci, when) {
			delete(m.recent, pci)
			continue
		}
		s.recent[pci] = true
	}
	for pci, f := range s.functions {
		s.remember(f, m.items[pci])
	}
}

// settled reports whether a device that was allocated at a time needs not be
// remembered: kubelet names its pod, or never will. A claim says nothing: an
// ADD that failed is tried again with the same device.
func (s *sight) settled(pci string, when time.Time) bool {
	return s.holders[pci] != "" && s.asked.After(when) || s.now.Sub(when) >= freshFor
}

// remember fills in what cannot be seen of a function while a pod has it or
// its PF: their network devices, and where RDMA devices belong to one
// namespace, those.
func (s *sight) remember(f *sriov.Function, listed *item) {
	if r := s.claims[f.PF.PCI].Record; f.PF.Name == "" && r != nil {
		f.PF.Name = r.Original.Netdev
	}
	if !s.held(f.PCI) || len(f.RDMA) > 0 {
		return
	}
	if listed != nil {
		f.RDMA = listed.RDMA
	}
	// An agent that finds the VF in a pod at its first look knows the PF only.
	if pf := s.functions[f.PF.PCI]; len(f.RDMA) == 0 && s.claims[f.PCI].Record != nil && pf != nil && f.Index >= 0 && len(pf.RDMA) > 0 {
		f.RDMA, s.borrowed[f.PCI] = pf.RDMA, true
	}
}

// taken reports whether a pod has a device, as far as that is known.
func (s *sight) taken(pci string) bool {
	_, claimed := s.claims[pci]
	return claimed || s.holders[pci] != "" || s.recent[pci]
}

// held reports whether a pod has a device, or may have it.
func (s *sight) held(pci string) bool { return s.taken(pci) || !s.known }

// examine finds out which selected functions the node needs itself, or are
// still to be provisioned.
func (m *Manager) examine(s *sight) error {
	use, err := sriov.LookAtNode(m.Sys, m.Kernel)
	if err == nil && m.routes.follow(s.watched(use)) {
		use.Close() // nobody heard what changed since on devices that are new
		use, err = sriov.LookAtNode(m.Sys, m.Kernel)
	}
	if err != nil {
		return err
	}
	defer use.Close()
	for i := range s.choices {
		c := &s.choices[i]
		why, useErr := use.Of(&c.Device)
		if useErr != nil {
			return fmt.Errorf("see what the node uses %s for: %w", c.PCI, useErr)
		}
		if why == "" && m.Withhold != nil && !s.taken(c.PCI) {
			why = m.Withhold(&c.PF, c.PCI)
		}
		if why != "" {
			s.blocked[c.PCI] = why
		}
	}
	s.block()
	return nil
}

// watched returns the network devices whose changes matter.
func (s *sight) watched(use *sriov.NodeUse) *watched {
	w := &watched{links: map[int]bool{}, candidates: map[int]bool{}, addresses: map[int]bool{}}
	add := func(set map[int]bool, netdev string) {
		if index := use.Index(netdev); index != 0 {
			set[index] = true
		}
	}
	for _, f := range s.functions {
		add(w.links, f.Netdev)
	}
	for i := range s.choices {
		c := &s.choices[i]
		add(w.candidates, c.Netdev)
		if c.Index < 0 {
			add(w.addresses, c.Netdev)
		}
	}
	return w
}

// unwell says why a function cannot be given to a pod, "" = it can.
func (s *sight) unwell(f *sriov.Function) string {
	claim, ofPF := s.claims[f.PCI], sriov.Claim{}
	isVF := f.PF.PCI != f.PCI
	if isVF {
		ofPF = s.claims[f.PF.PCI]
	}
	switch {
	case claim.Damaged != nil:
		return "is quarantined: " + claim.Damaged.Error()
	case claim.Record != nil && claim.Failed != "":
		return "is quarantined: " + claim.Failed
	case claim.Record != nil && claim.Picked: // also where devices.json was lost meanwhile
		return "was picked by `master` for " + claim.Holder()
	case ofPF.Damaged != nil:
		return "its PF may be in a pod: " + ofPF.Damaged.Error()
	case ofPF.Record != nil:
		return "its PF is held by " + ofPF.Holder()
	case isVF && s.functions[f.PF.PCI] == nil:
		return "its PF " + f.PF.PCI + " is gone"
	case f.Driver == "":
		return "has no driver"
	case isVF && f.PF.Driver == "":
		return "its PF " + f.PF.PCI + " has no driver"
	}
	return s.blocked[f.PCI]
}

// otherwise says which pod has a device that kubelet did not give it: its
// network names the device (deviceID). "" = none, as far as is known.
func (s *sight) otherwise(pci string) string {
	r := s.claims[pci].Record
	if r == nil || s.holders == nil || s.holders[pci] != "" || s.recent[pci] {
		return ""
	}
	return "is held by " + r.Holder() + ", whose network names it by deviceID"
}
