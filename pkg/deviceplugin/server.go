package deviceplugin

import (
	"context"
	"slices"
	"sync"
	"time"

	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// server serves one resource to kubelet.
type server struct {
	plugin *kubelet.DevicePlugin
	list   []*deviceplugin.Device // as kubelet is told
	stop   context.CancelFunc
	done   chan struct{}
	end    time.Time // when it is to end; zero = it is not
}

// farewell is how long the server of a resource that is gone stays, for
// kubelet to hear that it has no devices.
const farewell = 2 * time.Second

// serve tells kubelet what each resource has. Who loses devices comes first: a
// device is never in two lists.
func (m *Manager) serve(ctx context.Context, running *sync.WaitGroup, lists map[string][]*deviceplugin.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.servers {
		if _, ok := lists[name]; !ok && s.end.IsZero() {
			m.Log.Info("a resource is gone", "resource", name)
			s.plugin.Offer([]*deviceplugin.Device{})
			s.end = m.Now().Add(farewell)
		}
	}
	for _, name := range sortedKeys(lists) {
		s := m.servers[name]
		if s == nil {
			m.start(ctx, running, name)
			continue
		}
		s.end = time.Time{}
		s.plugin.Offer(kept(s.list, lists[name]))
	}
	for _, name := range sortedKeys(lists) {
		m.servers[name].list = lists[name]
		m.servers[name].plugin.Offer(lists[name])
	}
}

// kept returns what of a new list was in the old one.
func kept(old, list []*deviceplugin.Device) []*deviceplugin.Device {
	had := map[string]bool{}
	for _, d := range old {
		had[d.GetID()] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(d *deviceplugin.Device) bool { return !had[d.GetID()] })
}

// start begins to serve a resource.
func (m *Manager) start(ctx context.Context, running *sync.WaitGroup, name string) {
	if m.servers == nil {
		m.servers, m.kubelet = map[string]*server{}, kubelet.NewWatch(m.KubeletDir)
	}
	ctx, stop := context.WithCancel(ctx)
	s := &server{stop: stop, done: make(chan struct{}), plugin: &kubelet.DevicePlugin{
		Resource: name, KubeletDir: m.KubeletDir, Watch: m.kubelet, Log: m.Log,
		Allocate: func(ctx context.Context, ids []string) (*deviceplugin.ContainerAllocateResponse, error) {
			return m.allocate(ctx, name, ids)
		},
		Prefer: func(available, must []string, size int) ([]string, error) {
			return m.preferred(name, available, must, size)
		},
	}}
	m.servers[name] = s
	running.Go(func() {
		defer close(s.done)
		if err := s.plugin.Run(ctx); err != nil && ctx.Err() == nil {
			m.Log.Error("a resource is not served", "resource", name, "error", err.Error())
		}
	})
}

// retire ends the servers whose time has come.
func (m *Manager) retire() {
	var ending []*server
	m.mu.Lock()
	for name, s := range m.servers {
		if !s.end.IsZero() && !m.Now().Before(s.end) {
			ending = append(ending, s)
			delete(m.servers, name)
		}
	}
	m.mu.Unlock()
	for _, s := range ending {
		s.stop()
	}
	for _, s := range ending { // without the lock: an Allocate may be at work
		<-s.done
	}
}

// nextLook is how long Run may sleep, besides what wakes it.
func (m *Manager) nextLook() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait := m.rescan()
	for _, s := range m.servers {
		if !s.end.IsZero() {
			wait = min(wait, max(s.end.Sub(m.Now()), time.Millisecond))
		}
	}
	if !m.config.absent.IsZero() {
		wait = min(wait, retry)
	}
	if m.view.failed > 0 {
		wait = min(wait, retry<<min(m.view.failed-1, maxBackoff))
	}
	if m.view.awaits || len(m.recent) > 0 {
		wait = min(wait, poll)
	}
	return wait
}

// again finds out why the time of nextLook has come.
func (m *Manager) again() {
	m.mu.Lock()
	absent := !m.config.absent.IsZero()
	m.mu.Unlock()
	if m.view.failed > 0 || absent {
		m.pending.add(causeRetry)
	}
	if !m.remembers() && !m.view.awaits {
		return
	}
	if holders, _, known := m.holders(); m.view.holdersDiffer(holders, known) || m.view.awaits && m.outdated() {
		m.pending.add(causeFreed)
	}
	if m.Ask != nil {
		m.Ask()
	}
}

// remembers reports whether there is a device that kubelet has just allocated.
func (m *Manager) remembers() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.recent) > 0
}

// outdated reports whether a device that kubelet allocated needs not be
// remembered any more, though its pod was never seen.
func (m *Manager) outdated() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, when := range m.recent {
		if m.Now().Sub(when) >= freshFor {
			return true
		}
	}
	return false
}

// healthOf is how kubelet says whether a device can be given away.
func healthOf(i *item) string {
	if i.reason == "" {
		return deviceplugin.Healthy
	}
	return deviceplugin.Unhealthy
}

// lists returns what each resource of the configuration has, for kubelet.
func lists(config *resource.Config, items map[string]*item) map[string][]*deviceplugin.Device {
	all := map[string][]*deviceplugin.Device{}
	if config == nil {
		return all
	}
	for n := range config.Resources {
		r := &config.Resources[n]
		all[r.Name] = []*deviceplugin.Device{}
		for _, pci := range sortedKeys(items) {
			i := items[pci]
			if i.Resource != r.Name {
				continue
			}
			d := &deviceplugin.Device{ID: pci, Health: healthOf(i)}
			if !r.ExcludeTopology && i.NUMA >= 0 {
				d.Topology = &deviceplugin.TopologyInfo{Nodes: []*deviceplugin.NUMANode{{ID: int64(i.NUMA)}}}
			}
			all[r.Name] = append(all[r.Name], d)
		}
	}
	return all
}
