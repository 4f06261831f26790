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
		if reason == "" {
			reason = s.otherwise(c.PCI)
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
		if next.reason == "" && !s.taken(c.PCI) {
			next.reason = "goes to " + next.Resource + " as soon as kubelet says that no pod has it"
		}
		next.Resource, next.selector = old.Resource, old.selector
	}
	if old.Driver != next.Driver && s.taken(c.PCI) {
		o.awaits = true
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
	next := *old
	next.function = s.functions[old.PCI]
	switch {
	case next.function != nil:
		next.gone = time.Time{}
	case old.gone.IsZero():
		next.gone = s.now
	}
	unwanted := s.unwanted(&next)
	if unwanted && !s.held(old.PCI) {
		return
	}
	next.reason = s.astray(&next)
	if unwanted && next.reason == deselected && s.taken(old.PCI) {
		next.reason = "" // as it was, until its pod ends
	}
	o.awaits = o.awaits || unwanted
	o.items[old.PCI] = &next
}

// unwanted reports whether a device that is not selected is to be forgotten,
// unless a pod has it: by another configuration, because its PF's VFs are
// offered in its place, or after a long time without it.
func (s *sight) unwanted(i *item) bool {
	switch {
	case s.unsettled || !s.offers(i.Resource):
		return true
	case i.function != nil:
		return i.function.Index < 0 && len(i.function.PF.VFs) > 0
	}
	return s.now.Sub(i.gone) >= forgotten
}

// deselected is what is wrong with a device that is well otherwise.
const deselected = "is not what the selectors of its resource ask for any more"

// astray says why a device is listed and not selected.
func (s *sight) astray(i *item) string {
	f := i.function
	switch {
	case f == nil && s.functions[i.PF] == nil && i.PF != i.PCI:
		return "its PF " + i.PF + " is gone"
	case f == nil:
		return "the node has no such device now"
	case s.unwell(f) != "":
		return s.unwell(f)
	case f.Driver != i.Driver:
		return "was bound to driver " + f.Driver + ", and was offered with " + i.Driver
	}
	return deselected
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
