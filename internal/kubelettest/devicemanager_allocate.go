package kubelettest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Allocate gives n free devices of a resource to a container: those that the
// plugin prefers, if it offers that, as far as they are free. The plugin is
// told them in any order. After an error they are free again, and the real
// kubelet fails the pod.
func (m *DeviceManager) Allocate(resource string, n int) (ids []string, response *deviceplugin.ContainerAllocateResponse, err error) {
	c, ctx, ids, err := m.choose(resource, n)
	if err != nil {
		return nil, nil, err
	}
	answer, err := c.api.Allocate(ctx, &deviceplugin.AllocateRequest{
		ContainerRequests: []*deviceplugin.ContainerAllocateRequest{{DevicesIds: ids}},
	})
	if err == nil && len(answer.GetContainerResponses()) == 0 {
		err = errors.New("no containers return in allocation response")
	}
	if err != nil {
		m.Free(resource, ids...)
		return nil, nil, err
	}
	slices.Sort(ids)
	return ids, answer.GetContainerResponses()[0], nil
}

// choose takes n free devices.
func (m *DeviceManager) choose(name string, n int) (*pluginClient, context.Context, []string, error) {
	m.choosing.Lock()
	defer m.choosing.Unlock()
	c, ctx, free, err := m.free(name, n)
	if err != nil {
		return nil, nil, nil, err
	}
	var preferred []string
	if c.options.GetGetPreferredAllocationAvailable() {
		answer, perr := c.api.GetPreferredAllocation(ctx, &deviceplugin.PreferredAllocationRequest{
			ContainerRequests: []*deviceplugin.ContainerPreferredAllocationRequest{{AvailableDeviceIDs: free, AllocationSize: int32(n)}},
		})
		if perr != nil {
			return nil, nil, nil, perr
		}
		if of := answer.GetContainerResponses(); len(of) > 0 {
			preferred = of[0].GetDeviceIDs()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, id := range slices.Concat(preferred, free) {
		if len(ids) < n && slices.Contains(free, id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
			m.resources[name].allocated[id] = true
		}
	}
	return c, ctx, ids, nil
}

// free returns all free devices in any order, at least n, and their plugin.
func (m *DeviceManager) free(name string, n int) (*pluginClient, context.Context, []string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resources[name]
	if r == nil || m.run == nil {
		return nil, nil, nil, fmt.Errorf("cannot allocate unregistered device %s", name)
	}
	if len(r.healthy) == 0 || len(r.clients) == 0 {
		return nil, nil, nil, fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", name)
	}
	var free []string
	for id := range r.healthy { // in any order
		if !r.allocated[id] {
			free = append(free, id)
		}
	}
	if n < 1 || len(free) < n {
		return nil, nil, nil, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", name, n, len(free))
	}
	return r.clients[len(r.clients)-1], m.run.ctx, free, nil
}

// Free takes devices back, as when their pod ends.
func (m *DeviceManager) Free(resource string, ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.resource(resource).allocated, id)
	}
	m.tell()
}
