package deviceplugin

import (
	"context"
	"fmt"
	"slices"
	"time"

	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// allocate says what a container gets with devices of a resource. The devices
// are looked at as they are now.
func (m *Manager) allocate(_ context.Context, name string, ids []string) (*deviceplugin.ContainerAllocateResponse, error) {
	answer, err := m.give(name, ids)
	result := "ok"
	if err != nil {
		result = "error"
		m.Log.Error("devices cannot be allocated: kubelet does not start the pod", "resource", name, "devices", ids, "error", err.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.allocated(name, result)
	if err != nil {
		for _, id := range ids {
			delete(m.recent, id)
		}
	}
	return answer, err
}

func (m *Manager) give(name string, ids []string) (*deviceplugin.ContainerAllocateResponse, error) {
	items, r, err := m.reserve(name, ids)
	if err != nil {
		return nil, err
	}
	devices := make([]given, 0, len(items))
	for _, i := range items {
		g, giveErr := m.now(i)
		if giveErr != nil {
			return nil, giveErr
		}
		g.extra = extra(r, i.PCI)
		devices = append(devices, *g)
	}
	answer := &deviceplugin.ContainerAllocateResponse{}
	if answer.Envs, err = env(name, devices); err != nil {
		return nil, err
	}
	if err = m.tellThese(items); err != nil {
		return nil, err
	}
	if _, unfit := cdiKind(name); m.CDIDir == "" || unfit != nil {
		answer.Devices = specs(devices)
		return answer, nil
	}
	names, err := m.specifyThese(name, devices)
	for _, n := range names {
		answer.CdiDevices = append(answer.CdiDevices, &deviceplugin.CDIDevice{Name: n})
	}
	return answer, err
}

// reserve makes sure that a resource lists devices, and can give them, and
// keeps them there. They are returned in PCI order, as copies.
func (m *Manager) reserve(name string, ids []string) ([]*item, *resource.Resource, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resource(name)
	if r == nil {
		return nil, nil, network.Again.Errorf("resource %s is not offered any more: it is gone from the configuration %s; delete the pod, or add the resource again", name, m.ConfigPath)
	}
	items := make([]*item, 0, len(ids))
	for _, id := range ids {
		i := m.items[id]
		switch {
		case i == nil || i.Resource != name:
			return nil, nil, network.Again.Errorf("device %s is not offered as %s: kubelet's list is older than a change; delete the pod so that it gets another device, and see `multiplexerd devices`", id, name)
		case i.reason != "":
			return nil, nil, network.Again.Errorf("device %s of %s %s: it is offered again when that is over; delete the pod so that it gets another device, and see `multiplexerd devices`", id, name, i.reason)
		}
		if err := m.apart(i, ids); err != nil {
			return nil, nil, err
		}
		one := *i
		items = append(items, &one)
	}
	if m.recent == nil {
		m.recent = map[string]time.Time{}
	}
	for _, id := range ids {
		m.recent[id] = m.Now()
	}
	slices.SortFunc(items, func(a, b *item) int { return sriov.ComparePCI(a.PCI, b.PCI) })
	return items, r, nil
}

// resource returns a resource of the configuration. The caller holds mu.
func (m *Manager) resource(name string) *resource.Resource {
	if m.config.Config == nil {
		return nil
	}
	for i := range m.config.Resources {
		if m.config.Resources[i].Name == name {
			return &m.config.Resources[i]
		}
	}
	return nil
}

// now looks at a listed device once more: its driver is what makes it what
// the pod asked for, and its device files have other numbers after each bind.
func (m *Manager) now(i *item) (*given, error) {
	f, err := m.Sys.Function(i.PCI)
	if err != nil {
		return nil, err
	}
	if f.Driver != i.Driver {
		return nil, network.Again.Errorf("device %s of %s has driver %q now, and was offered with %q: delete the pod so that it gets another device, or bind the driver again", i.PCI, i.Resource, f.Driver, i.Driver)
	}
	g := &given{pci: i.PCI}
	if i.selector == nil {
		return g, nil
	}
	if g.nodes, err = nodesOf(m.Sys, f, i.selector); err != nil {
		return nil, err
	}
	if i.selector.RDMA && len(f.RDMA) == 0 {
		return nil, network.Again.Errorf("device %s of %s has no RDMA device on the node (none in infiniband of its sysfs directory): a pod that ends may still have it; delete the pod so that it gets another device", i.PCI, i.Resource)
	}
	for n := range g.nodes {
		if err = m.present(i.PCI, &g.nodes[n]); err != nil {
			return nil, err
		}
	}
	i.function, i.RDMA = f, f.RDMA
	if i.selector.RDMA {
		g.rdma = f.RDMA
	}
	return g, nil
}

// specs are the device files of all devices, each once.
func specs(devices []given) []*deviceplugin.DeviceSpec {
	var all []*deviceplugin.DeviceSpec
	had := map[string]bool{}
	for i := range devices {
		for _, n := range devices[i].nodes {
			if !had[n.Container] {
				had[n.Container] = true
				all = append(all, &deviceplugin.DeviceSpec{ContainerPath: n.Container, HostPath: n.Host, Permissions: permissions})
			}
		}
	}
	return all
}

// tellThese writes the device information of devices that are being allocated.
func (m *Manager) tellThese(items []*item) error {
	list := map[string]*item{}
	for _, i := range items {
		list[i.PCI] = i
	}
	if err := m.tellAll(list, func(string) bool { return false }); err != nil {
		return fmt.Errorf("allocate devices of %s: %w", items[0].Resource, err)
	}
	return nil
}

// preferred answers GetPreferredAllocation.
func (m *Manager) preferred(name string, available, must []string, size int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resource(name)
	if r == nil {
		return nil, network.Again.Errorf("resource %s is not offered any more", name)
	}
	return prefer(r.Allocation, m.places(available), m.places(must), size), nil
}

// places says where devices are. The caller holds mu.
func (m *Manager) places(ids []string) []place {
	list := make([]place, 0, len(ids))
	for _, id := range ids {
		p := place{id: id, numa: -1}
		if i := m.items[id]; i != nil {
			p.pf, p.numa = i.PF, i.NUMA
			if i.function != nil {
				p.root = i.function.Root
			}
		}
		list = append(list, p)
	}
	return list
}
