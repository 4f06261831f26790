package provision

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// absence is, in times of Retry, how often what is not there, or is a pod's,
// is looked for.
const absence = 5

// target is a PF that something is to be done to.
type target struct {
	wish *resource.PF // nil = it goes back to what it was
	pci  string       // "" = it is not there
	// since is when its VFs were first withheld.
	since time.Time
	due   time.Time
	tries int
	found int // how often: it may go and come back
	// whole: PF and number of VFs are right. The VFs in `waiting` are still
	// to be changed.
	whole   bool
	waiting map[string]waiting
	status  PFStatus
}

// waiting is a VF that cannot be changed yet.
type waiting struct {
	why   string
	since time.Time
}

// wish makes the targets of a configuration. One that is wished as before
// stays as it is.
func (p *Provisioner) wish(pfs []resource.PF) {
	old := p.targets
	p.targets = nil
	for i := range pfs {
		at := slices.IndexFunc(old, func(t *target) bool { return t.wish != nil && *t.wish == pfs[i] && !slices.Contains(p.targets, t) })
		if at >= 0 {
			p.targets = append(p.targets, old[at])
			continue
		}
		wish := pfs[i]
		p.targets = append(p.targets, &target{wish: &wish, since: p.Now(), status: PFStatus{
			Name: wish.Name, PCI: wish.PCI, NumVFs: wish.NumVFs, Driver: wish.Driver, MTU: wish.MTU,
			State: Working, Since: p.Now(),
		}})
	}
	for _, t := range old {
		if t.wish == nil {
			p.targets = append(p.targets, t)
		}
	}
}

// plan finds the PFs that are wished, and those that are no more.
func (p *Provisioner) plan() {
	records, err := p.records()
	p.tell(err)
	taken := map[string]bool{}
	for _, t := range p.targets {
		if t.wish != nil {
			p.locate(t, taken, records)
		}
	}
	p.targets = slices.DeleteFunc(p.targets, func(t *target) bool {
		return t.wish == nil && (records[t.pci] == nil || p.wished(records[t.pci]))
	})
	for _, pci := range slices.Sorted(maps.Keys(records)) {
		r := records[pci]
		if p.wished(r) || slices.ContainsFunc(p.targets, func(t *target) bool { return t.wish == nil && t.pci == r.PCI }) {
			continue
		}
		p.targets = append(p.targets, &target{pci: r.PCI, since: p.Now(), status: PFStatus{
			Name: r.Name, PCI: r.PCI, NumVFs: r.Original.NumVFs, Undo: true, State: Working, Since: p.Now(),
		}})
	}
}

// wished reports whether the configuration still asks for a record's PF: by a
// name that no PF has at the moment, too.
func (p *Provisioner) wished(r *Record) bool {
	return slices.ContainsFunc(p.targets, func(t *target) bool {
		return t.wish != nil && (t.pci == r.PCI || t.wish.PCI == r.PCI || t.pci == "" && t.wish.Name != "" && t.wish.Name == r.Name)
	})
}

// locate finds the PF of a target.
func (p *Provisioner) locate(t *target, taken map[string]bool, records map[string]*Record) {
	pf, err := p.find(t.wish)
	if err == nil && taken[pf.PCI] {
		err = network.Invalid.Errorf("pfs: PF %s (%s) is in the configuration twice: take one entry out", pf.Name, pf.PCI)
	}
	if err != nil {
		t.pci, t.whole, t.waiting = "", false, nil
		t.set(Absent, err.Error(), p.Now())
		if errors.Is(err, network.Invalid) {
			t.status.State = Failed
		}
		return
	}
	taken[pf.PCI] = true
	if t.pci == pf.PCI {
		return
	}
	t.pci, t.since, t.due, t.tries, t.whole, t.waiting = pf.PCI, p.Now(), time.Time{}, 0, false, nil
	t.found++
	t.status.PCI = pf.PCI
	// Another wish's try may be changing it.
	if r := records[pf.PCI]; !p.busy[pf.PCI] && r != nil && r.done(p.boot, t.wish) && len(pf.VFs) == t.wish.NumVFs {
		t.whole = true
		t.set(Done, "", p.Now())
		return
	}
	t.set(Working, "", p.Now())
}

// find finds the PF that an entry of the configuration means.
func (p *Provisioner) find(wish *resource.PF) (*sriov.PF, error) {
	if wish.PCI != "" {
		pci, err := sriov.NormalPCI("pciAddress", wish.PCI)
		if err != nil {
			return nil, err
		}
		pf, err := p.Sys.PF(pci)
		if err != nil {
			return nil, network.Again.Errorf("pfs: pciAddress %s: the node has no such PF with SR-IOV now", pci)
		}
		return pf, nil
	}
	if err := network.ValidateInterface("name", wish.Name); err != nil {
		return nil, err
	}
	pf, err := p.Sys.PFByName(wish.Name)
	if err == nil {
		return pf, nil
	}
	if _, statErr := os.Lstat(filepath.Join(string(p.Sys), "class", "net", wish.Name)); statErr == nil {
		return nil, network.Invalid.Errorf("pfs: name %q: that network device is no PF with SR-IOV: name one that is", wish.Name)
	}
	return nil, network.Again.Errorf("pfs: name %q: the node has no network device of that name now", wish.Name)
}

// targetOf returns what is to be done to a PF, nil = nothing.
func (p *Provisioner) targetOf(pf *sriov.PF) *target {
	for _, t := range p.targets {
		if t.pci == pf.PCI || t.wish != nil && t.pci == "" && (t.wish.PCI == pf.PCI || t.wish.Name != "" && t.wish.Name == pf.Name) {
			return t
		}
	}
	return nil
}

// Withhold says why a PF's VFs must not be offered yet, "" = they may be. A
// PF that the configuration does not name, and never did, is not withheld.
func (p *Provisioner) Withhold(pf *sriov.PF) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targetOf(pf)
	if t == nil {
		return ""
	}
	if why := t.withheld(pf); why != "" {
		return why
	}
	for _, vf := range slices.Sorted(maps.Keys(t.waiting)) {
		return "VF " + vf + " " + t.waiting[vf].why
	}
	return ""
}

// WithholdVF says the same of one VF: those that are ready may go to pods
// while others of the PF wait to be changed.
func (p *Provisioner) WithholdVF(pf *sriov.PF, vf string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targetOf(pf)
	if t == nil {
		return ""
	}
	if why := t.withheld(pf); why != "" {
		return why
	}
	return t.waiting[vf].why
}

// withheld says why none of the PF's VFs may be offered.
func (t *target) withheld(pf *sriov.PF) string {
	switch {
	case t.wish == nil:
		return "PF " + pf.PCI + " has left the configuration and goes back to what it was"
	case t.whole && len(pf.VFs) != t.wish.NumVFs:
		return "the number of VFs of PF " + pf.PCI + " changes"
	case t.whole:
		return ""
	case t.status.Reason != "":
		return t.status.Reason
	}
	return "PF " + pf.PCI + " is being set up"
}
