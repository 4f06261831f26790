package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// How long the locks of PFs may hold a look up, each and together: kubelet is
// to hear of a change within a second.
const (
	lockPatience  = 150 * time.Millisecond
	locksPatience = 300 * time.Millisecond
)

// resume takes over what an earlier agent listed.
func (m *Manager) resume() {
	listed, err := m.Claims.Offers()
	if err != nil {
		m.Log.Warn("what was offered before is not known: VFs that pods have and the node has not are forgotten", "error", err.Error())
		err = m.Claims.SetOffers(nil)
	}
	m.notices.check(m.Log, "offers", "what is offered cannot be written down", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = map[string]*item{}
	for _, o := range listed {
		m.items[o.PCI] = &item{Offer: o}
	}
	m.config.unsettled = true
}

// look sees how things are and tells kubelet.
func (m *Manager) look(ctx context.Context, running *sync.WaitGroup, causes map[string]bool) {
	changed := m.configure()
	if len(causes) == 1 && causes[causeConfig] && !changed {
		return
	}
	m.mu.Lock()
	blind := m.config.blind()
	m.mu.Unlock()
	if blind { // a file that was never right says nothing about what is listed
		return
	}
	s, err := m.see()
	m.notices.check(m.Log, "look", "the node's devices cannot be seen: what was offered before stays", err)
	if err != nil {
		m.view.failed++
		return
	}
	m.warn(s)
	m.mu.Lock()
	o := s.decide(m.items)
	m.mu.Unlock()
	failed := m.announce(ctx, o)
	if ctx.Err() != nil {
		return
	}
	gone := m.adopt(s, o)
	// Two resources may have one name for a device's file: who had it goes first.
	failed = append(failed, m.untell(gone), m.tellAll(o.items, s.taken), m.specify(o.items, s.taken))
	m.serve(ctx, running, lists(s.config, o.items))
	failed = append(failed, m.Claims.SetOffers(offersOf(o.items)))
	err = errors.Join(failed...)
	m.notices.check(m.Log, "files", "not all of a look at the node's devices succeeded; it is tried again", err)
	tries := 0
	if err != nil {
		tries = m.view.failed + 1
	}
	m.view = view{failed: tries, awaits: o.awaits, holders: s.holders, known: s.known}
}

// warn says what is wrong with the selection, once.
func (m *Manager) warn(s *sight) {
	var texts []string
	for _, w := range s.warnings {
		texts = append(texts, w.Error())
	}
	m.notices.say(m.Log, "selection", "the device plugin's configuration does not fit this node", strings.Join(texts, "; "))
}

// announce writes down what is to be listed for the first time. What cannot be
// waits: for another call that works on the PF, or because a pod has taken it
// meanwhile.
func (m *Manager) announce(ctx context.Context, o *outcome) []error {
	ctx, cancel := context.WithTimeout(ctx, locksPatience)
	defer cancel()
	var failed []error
	for _, pf := range sortedKeys(o.fresh) {
		list := make([]sriov.Offer, 0, len(o.fresh[pf]))
		for _, i := range o.fresh[pf] {
			list = append(list, i.Offer)
		}
		limited, done := context.WithTimeout(ctx, lockPatience)
		refused, err := m.Claims.Offer(limited, pf, list)
		done()
		if err != nil {
			failed = append(failed, fmt.Errorf("offer the devices of PF %s: %w", pf, err))
		}
		for _, i := range o.fresh[pf] {
			switch why := refused[i.PCI]; {
			case err != nil:
				o.waiting[i.PCI] = err.Error()
			case why != "":
				o.waiting[i.PCI] = why
			default:
				o.items[i.PCI] = i
			}
		}
	}
	return failed
}

// adopt makes the outcome what is listed, and returns what is listed no more.
// A device that kubelet allocated since the look stays where it is.
func (m *Manager) adopt(s *sight, o *outcome) (gone []sriov.Offer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, pci := range sortedKeys(m.items) {
		old, next := m.items[pci], o.items[pci]
		if next != nil && next.Resource == old.Resource {
			continue
		}
		if _, just := m.recent[pci]; just && !s.recent[pci] {
			o.items[pci], o.awaits = old, true
			continue
		}
		gone = append(gone, old.Offer)
	}
	m.report(m.items, o.items)
	m.items, m.waiting = o.items, o.waiting
	m.config.unsettled = m.config.unsettled && !s.known
	return gone
}

// report logs what changed: devices with the same news together.
func (m *Manager) report(before, after map[string]*item) {
	type news struct{ resource, reason string }
	found := map[news][]string{}
	var order []news
	add := func(n news, pci string) {
		if found[n] == nil {
			order = append(order, n)
		}
		found[n] = append(found[n], pci)
	}
	const offered, withdrawn, well = "+", "-", ""
	for _, pci := range sortedKeys(after) {
		old, next := before[pci], after[pci]
		switch {
		case old == nil || old.Resource != next.Resource:
			add(news{next.Resource, offered}, pci)
		case old.reason != next.reason:
			add(news{next.Resource, next.reason}, pci)
		}
	}
	for _, pci := range sortedKeys(before) {
		if next := after[pci]; next == nil || next.Resource != before[pci].Resource {
			add(news{before[pci].Resource, withdrawn}, pci)
		}
	}
	for _, n := range order {
		about := []any{"resource", n.resource, "devices", strings.Join(found[n], " ")}
		switch n.reason {
		case offered:
			m.Log.Info("devices are offered", about...)
		case withdrawn:
			m.Log.Info("devices are not offered any more", about...)
		case well:
			m.Log.Info("devices can be given to pods again", about...)
		default:
			m.Log.Warn("devices cannot be given to pods", append(about, "reason", n.reason)...)
		}
	}
}

func offersOf(items map[string]*item) []sriov.Offer {
	list := make([]sriov.Offer, 0, len(items))
	for _, pci := range sortedKeys(items) {
		list = append(list, items[pci].Offer)
	}
	return list
}
