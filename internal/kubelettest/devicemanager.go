package kubelettest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// DeviceManager is kubelet as device plugins meet it, on a directory like
// /var/lib/kubelet. It does what the real one of 1.37 does, faster where that
// waits: its plugin watcher looks ten times a second and not once. It never
// forgets a resource, the real one does 5 minutes after its plugin ended.
type DeviceManager struct {
	dir     string
	watches bool // plugins_registry
	older   bool

	mu        sync.Mutex
	changed   chan struct{} // closed at the next change
	resources map[string]*resource
	refused   map[string]string // reasons, by resource
	run       *managerRun       // nil when stopped

	choosing sync.Mutex // of devices, one container after the other
}

// Resource is what a DeviceManager knows of one resource. Its capacity on the
// node is Healthy and Unhealthy, of which Healthy is allocatable.
type Resource struct {
	Healthy, Unhealthy []string // sorted
	Allocated          []string // sorted
	Sockets            []string // of the connected plugins, the one that is asked last
	Registrations      int      // that succeeded, since New
	Lists              int      // that were received, since New
}

// ManagerOption changes a DeviceManager.
type ManagerOption func(*DeviceManager)

// WithoutWatcher makes a kubelet that has no plugin watcher. The directory
// plugins_registry is there only if somebody else makes it.
func WithoutWatcher() ManagerOption { return func(m *DeviceManager) { m.watches = false } }

// Older makes a kubelet that knows one plugin for a resource: the next takes
// its place, and the end of the former's stream then cuts off the next.
func Older() ManagerOption { return func(m *DeviceManager) { m.older = true } }

// NewDeviceManager starts a kubelet on dir.
func NewDeviceManager(dir string, options ...ManagerOption) (*DeviceManager, error) {
	m := &DeviceManager{dir: dir, watches: true, changed: make(chan struct{}),
		resources: map[string]*resource{}, refused: map[string]string{}}
	for _, option := range options {
		option(m)
	}
	return m, m.Restart()
}

// managerRun is one life of a kubelet.
type managerRun struct {
	m       *DeviceManager
	ctx     context.Context
	end     context.CancelFunc
	server  *grpc.Server
	running sync.WaitGroup
	plugins *pluginWatcher // nil without one
}

// Restart ends the kubelet if it runs, and starts it. As the real one it
// removes the sockets in device-plugins first, knows the allocated devices and
// the resources' names from before, and has no devices until plugins come.
func (m *DeviceManager) Restart() error {
	if err := m.Stop(); err != nil {
		return err
	}
	dir := filepath.Join(m.dir, "device-plugins")
	if err := errors.Join(os.MkdirAll(dir, 0o750), removeSockets(dir)); err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "kubelet.sock"), Net: "unix"})
	if err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	run := &managerRun{m: m, server: grpc.NewServer(grpc.WaitForHandlers(true))}
	run.ctx, run.end = context.WithCancel(context.Background())
	deviceplugin.RegisterRegistrationServer(run.server, &registrar{run: run, dir: dir})
	m.mu.Lock()
	m.run = run
	m.mu.Unlock()
	run.running.Go(func() { _ = run.server.Serve(listener) })
	if m.watches {
		if err = run.watchPlugins(filepath.Join(m.dir, "plugins_registry")); err != nil {
			return errors.Join(err, m.Stop())
		}
	}
	return nil
}

// Stop kills the kubelet: connections break, its socket's file stays. It does
// nothing to a stopped one.
func (m *DeviceManager) Stop() error {
	m.mu.Lock()
	run := m.run
	m.run = nil
	m.mu.Unlock()
	if run == nil {
		return nil
	}
	run.end()
	run.server.Stop()
	run.running.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.resources {
		r.forget()
	}
	m.tell()
	return nil
}

func removeSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.Type() != fs.ModeSocket {
			continue
		}
		if rerr := os.Remove(filepath.Join(dir, entry.Name())); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// Refuse makes the kubelet refuse to register a resource, by either way; an
// empty reason ends that.
func (m *DeviceManager) Refuse(resource, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[resource] = reason
}

// Resources returns what is known, by resource name.
func (m *DeviceManager) Resources() map[string]Resource {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]Resource{}
	for name, r := range m.resources {
		all[name] = r.view()
	}
	return all
}

// Wait waits until a resource's devices are as asked for.
func (m *DeviceManager) Wait(resource string, ok func(healthy, unhealthy []string) bool, timeout time.Duration) error {
	return m.WaitFor(resource, func(r Resource) bool { return ok(r.Healthy, r.Unhealthy) }, timeout)
}

// WaitFor waits until a resource is as asked for.
func (m *DeviceManager) WaitFor(resource string, ok func(Resource) bool, timeout time.Duration) error {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for {
		m.mu.Lock()
		r, changed := m.resource(resource).view(), m.changed
		m.mu.Unlock()
		if ok(r) {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("after %s resource %s still has %d healthy and %d unhealthy devices, %d registrations, %d lists and the sockets %v",
				timeout, resource, len(r.Healthy), len(r.Unhealthy), r.Registrations, r.Lists, r.Sockets)
		}
	}
}

// resource returns a resource, an unknown one too. The caller holds mu.
func (m *DeviceManager) resource(name string) *resource {
	if r := m.resources[name]; r != nil {
		return r
	}
	return &resource{}
}

// tell wakes who waits. The caller holds mu.
func (m *DeviceManager) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// resource is a resource of a DeviceManager, under its lock.
type resource struct {
	devices              map[string]*deviceplugin.Device
	healthy, unhealthy   set
	allocated            set
	clients              []*pluginClient // connected, the one that is asked last
	endpoints            []string        // sockets of clients whose end was not noticed, and of those connected
	registrations, lists int
}

type set map[string]bool

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }

// forget is a restart of kubelet.
func (r *resource) forget() {
	r.devices, r.healthy, r.unhealthy, r.clients, r.endpoints = nil, nil, nil, nil, nil
}

func (r *resource) view() Resource {
	v := Resource{Healthy: r.healthy.sorted(), Unhealthy: r.unhealthy.sorted(), Allocated: r.allocated.sorted(),
		Registrations: r.registrations, Lists: r.lists}
	for _, c := range r.clients {
		v.Sockets = append(v.Sockets, c.socket)
	}
	return v
}
