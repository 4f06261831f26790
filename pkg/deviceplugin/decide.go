package deviceplugin

import (
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// outcome is what is to be listed after a look.
type outcome struct {
	items   map[string]*item
	fresh   map[string][]*item // what is listed for the first time, by PF
	waiting map[string]string  // why what is selected is not listed
	awaits  bool               // a device waits for its pod to end
}

// decide says what each resource lists. A device comes onto a list when it can
// be given to a pod, and stays there: what is wrong with it later makes it
// Unhealthy. It goes when the configuration does not want it any more, or
// wants it elsewhere, and no pod has it.
func (s *sight) decide(listed map[string]*item) *outcome {
	o := &outcome{items: map[string]*item{}, fresh: map[string][]*item{}, waiting: map[string]string{}}
	for i := range s.choices {
		s.choose(o, &s.choices[i], listed[s.choices[i].PCI])
	}
	for pci, old := range listed {
		if o.items[pci] == nil {
			s.keep(o, old)
		}
	}
	o.awaits = o.awaits || !s.known
	return o
}

// choose handles a function that a resource selects.
func (s *sight) choose(o *outcome, c *resource.Choice, old *item) {
	reason := s.unwell(&c.Function)
	next := &item{function: &c.Function, selector: c.Selector, reason: reason, Offer: sriov.Offer{
		PCI: c.PCI, PF: c.PF.PCI, Resource: c.Resource.Name, Driver: c.Driver, LinkType: c.LinkType, RDMA: c.RDMA, NUMA: c.NUMA,
	}}
	if s.borrowed[c.PCI] {
		next.RDMA = nil
	}
	if old == nil {
		if r := s.claims[c.PCI].Record; reason == "" && r != nil && r.Picked {
			reason = "was picked by `master` for " + r.Holder()
		}
		if reason != "" {
			o.waiting[c.PCI] = reason
			return
		}
		o.fresh[c.PF.PCI] = append(o.fresh[c.PF.PCI], next)
		return
	}
	o.items[c.PCI] = next
	if old.Resource != next.Resource && s.held(c.PCI) {
		o.awaits = true
		next.Resource, next.selector = old.Resource, old.selector
	}
	if old.Driver != next.Driver && s.taken(c.PCI) {
		next.Driver = old.Driver
		if next.reason == "" {
			next.reason = "was bound to driver " + c.Driver + " while a pod had it with " + old.Driver
		}
	}
}

// forgotten is when a device counts as given up that the node has not: the
// number of VFs was made smaller on purpose.
const forgotten = 15 * time.Minute

// keep handles a device that is listed, and that no resource selects now.
func (s *sight) keep(o *outcome, old *item) {
	held := s.held(old.PCI)
	f := s.functions[old.PCI]
	next := *old
	next.function = f
	switch {
	case f != nil:
		next.gone = time.Time{}
	case old.gone.IsZero():
		next.gone = s.now
	}
	unwanted := s.unsettled || !s.offers(old.Resource) || f != nil && f.Index < 0 && len(f.PF.VFs) > 0 ||
		f == nil && s.now.Sub(next.gone) >= forgotten
	if unwanted && !held {
		return
	}
	o.awaits = o.awaits || unwanted
	o.items[old.PCI] = &next
	switch {
	case f == nil && s.functions[old.PF] == nil && old.PF != old.PCI:
		next.reason = "its PF " + old.PF + " is gone"
	case f == nil:
		next.reason = "the node has no such device now"
	case s.unwell(f) != "":
		next.reason = s.unwell(f)
	case f.Driver != old.Driver:
		next.reason = "was bound to driver " + f.Driver + ", and was offered with " + old.Driver
	case unwanted:
		next.reason = "" // as it was, until its pod ends
	default:
		next.reason = "is not what the selectors of " + old.Resource + " ask for any more"
	}
}

// offers reports whether the configuration has a resource.
func (s *sight) offers(name string) bool {
	if s.config == nil {
		return false
	}
	for i := range s.config.Resources {
		if s.config.Resources[i].Name == name {
			return true
		}
	}
	return false
}
