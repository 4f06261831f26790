package kubelettest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	patience = time.Minute // nothing waits for it when things go well
	nic      = "vendor.com/nic"
)

// plugin is the least that a kubelet serves: healthy devices, until it stops.
type plugin struct {
	deviceplugin.UnimplementedDevicePluginServer
	registration.UnimplementedRegistrationServer
	info    *registration.PluginInfo
	ids     []string
	prefer  []string
	told    chan *registration.RegistrationStatus
	stopped chan struct{}
	stop    func()
}

// serve starts a plugin on a socket.
func serve(t *testing.T, path string, p *plugin) *plugin {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	p.told, p.stopped = make(chan *registration.RegistrationStatus, 100), make(chan struct{})
	deviceplugin.RegisterDevicePluginServer(server, p)
	registration.RegisterRegistrationServer(server, p)
	finished := make(chan error, 1)
	go func() { finished <- server.Serve(l) }()
	p.stop = func() {
		select {
		case <-p.stopped:
			return
		default:
		}
		close(p.stopped)
		server.Stop()
		if serr := <-finished; serr != nil {
			t.Error(serr)
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return p.info, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	select {
	case p.told <- s:
	default:
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (p *plugin) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{GetPreferredAllocationAvailable: p.prefer != nil}, nil
}

func (p *plugin) ListAndWatch(_ *deviceplugin.Empty, s grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	list := &deviceplugin.ListAndWatchResponse{}
	for _, id := range p.ids {
		list.Devices = append(list.Devices, &deviceplugin.Device{ID: id, Health: deviceplugin.Healthy})
	}
	if err := s.Send(list); err != nil {
		return err
	}
	select {
	case <-p.stopped:
	case <-s.Context().Done():
	}
	return nil
}

func (p *plugin) GetPreferredAllocation(context.Context, *deviceplugin.PreferredAllocationRequest) (*deviceplugin.PreferredAllocationResponse, error) {
	return &deviceplugin.PreferredAllocationResponse{ContainerResponses: []*deviceplugin.ContainerPreferredAllocationResponse{{DeviceIDs: p.prefer}}}, nil
}

func (p *plugin) Allocate(_ context.Context, r *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	ids := r.GetContainerRequests()[0].GetDevicesIds()
	if slices.Contains(ids, "broken") {
		return nil, errors.New("it is broken")
	}
	return &deviceplugin.AllocateResponse{ContainerResponses: []*deviceplugin.ContainerAllocateResponse{{Envs: map[string]string{"N": strings.Repeat("x", len(ids))}}}}, nil
}

func nicInfo() *registration.PluginInfo {
	return &registration.PluginInfo{Type: registration.DevicePlugin, Name: nic, SupportedVersions: []string{"v1beta1"}}
}

func callRegister(t *testing.T, dir, resource, version, endpoint string) error {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "device-plugins", "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = deviceplugin.NewRegistrationClient(conn).Register(t.Context(), &deviceplugin.RegisterRequest{Version: version, ResourceName: resource, Endpoint: endpoint})
	return err
}

func healthy(ids string) func(Resource) bool {
	return func(r Resource) bool { return strings.Join(r.Healthy, "") == ids }
}

func TestPluginWatcher(t *testing.T) {
	dir := t.TempDir()
	m := StartDeviceManager(t, dir)
	in := func(name string) string { return filepath.Join(dir, "plugins_registry", name) }
	p := serve(t, in(".hidden"), &plugin{info: nicInfo(), ids: []string{"a", "b"}})
	if err := os.Rename(in(".hidden"), in("nic.sock")); err != nil {
		t.Fatal(err)
	}
	m.RequireFor(t, nic, patience, healthy("ab"))
	if got := <-p.told; !got.GetPluginRegistered() {
		t.Errorf("told %v", got)
	}
	// A restart finds it again, and what a pod has.
	ids, _, err := m.Allocate(nic, 1)
	if err != nil {
		t.Fatal(err)
	}
	m.RequireStop(t)
	if got := m.Resources()[nic]; len(got.Healthy)+len(got.Unhealthy) != 0 || !slices.Equal(got.Allocated, ids) {
		t.Errorf("stopped: %+v", got)
	}
	m.RequireRestart(t)
	m.RequireFor(t, nic, patience, healthy("ab"))
	if _, _, err = m.Allocate(nic, 2); err == nil {
		t.Error("an allocated device is allocated again")
	}
	// A new socket in its place is a new plugin.
	q := serve(t, in(".hidden"), &plugin{info: nicInfo(), ids: []string{"c"}})
	if err = os.Rename(in(".hidden"), in("nic.sock")); err != nil {
		t.Fatal(err)
	}
	m.RequireFor(t, nic, patience, healthy("c"))
	// Its end makes devices unhealthy, and so does the end of its file.
	q.stop()
	m.RequireFor(t, nic, patience, func(r Resource) bool { return len(r.Healthy) == 0 && len(r.Unhealthy) == 1 && len(r.Sockets) == 0 })
	if _, _, err = m.Allocate(nic, 1); err == nil || !strings.Contains(err.Error(), "no healthy devices present") {
		t.Error(err)
	}
}

func TestPluginWatcherRefuses(t *testing.T) {
	dir := t.TempDir()
	m := StartDeviceManager(t, dir)
	for want, info := range map[string]*registration.PluginInfo{
		"no handler registered for plugin type: CSIPlugin": {Type: registration.CSIPlugin, Name: nic, SupportedVersions: []string{"v1beta1"}},
		"is not among plugin supported versions [v1]":      {Type: registration.DevicePlugin, Name: nic, SupportedVersions: []string{"v1"}},
		`the ResourceName "nic" is invalid`:                {Type: registration.DevicePlugin, Name: "nic", SupportedVersions: []string{"v1beta1"}},
	} {
		p := serve(t, filepath.Join(dir, "plugins_registry", "x.sock"), &plugin{info: info})
		if got := <-p.told; got.GetPluginRegistered() || !strings.Contains(got.GetError(), want) {
			t.Errorf("told %v, want %s", got, want)
		}
		p.stop()
	}
	m.Refuse(nic, "not today")
	p := serve(t, filepath.Join(dir, "plugins_registry", "nic.sock"), &plugin{info: nicInfo(), ids: []string{"a"}})
	if got := <-p.told; !strings.Contains(got.GetError(), "not today") {
		t.Errorf("told %v", got)
	}
	m.Refuse(nic, "")
	m.RequireFor(t, nic, patience, healthy("a")) // it tries again
}

func TestRegister(t *testing.T) {
	dir := t.TempDir()
	m := StartDeviceManager(t, dir, WithoutWatcher())
	in := func(name string) string { return filepath.Join(dir, "device-plugins", name) }
	p := serve(t, in("one.sock"), &plugin{ids: []string{"a", "b"}})
	for _, bad := range [][2]string{{nic, "v1"}, {"nic", "v1beta1"}, {"kubernetes.io/nic", "v1beta1"}} {
		if err := callRegister(t, dir, bad[0], bad[1], "one.sock"); err == nil {
			t.Errorf("registered %v", bad)
		}
	}
	if err := callRegister(t, dir, nic, "v1beta1", "one.sock"); err != nil {
		t.Fatal(err)
	}
	m.RequireFor(t, nic, patience, healthy("ab"))
	// Another plugin for it is asked from then on, and the first one again
	// when that ends.
	q := serve(t, in("two.sock"), &plugin{ids: []string{"c"}})
	if err := callRegister(t, dir, nic, "v1beta1", "two.sock"); err != nil {
		t.Fatal(err)
	}
	m.RequireFor(t, nic, patience, func(r Resource) bool { return healthy("c")(r) && len(r.Sockets) == 2 })
	q.stop()
	m.RequireFor(t, nic, patience, func(r Resource) bool { return len(r.Sockets) == 1 })
	if got := m.Resources()[nic]; len(got.Healthy) != 1 {
		t.Errorf("%+v", got)
	}
	// The real one's trap: called twice for a socket, it is deaf to its end.
	if err := callRegister(t, dir, nic, "v1beta1", "one.sock"); err == nil || !strings.Contains(err.Error(), "already connected") {
		t.Error(err)
	}
	p.stop()
	if got := m.Resources()[nic]; len(got.Healthy) != 1 {
		t.Errorf("%+v", got)
	}
	m.RequireRestart(t)
	if left, err := filepath.Glob(in("*")); err != nil || !slices.Equal(left, []string{in("kubelet.sock")}) {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAllocate(t *testing.T) {
	dir := t.TempDir()
	m := StartDeviceManager(t, dir)
	if _, _, err := m.Allocate(nic, 1); err == nil || !strings.Contains(err.Error(), "unregistered") {
		t.Error(err)
	}
	serve(t, filepath.Join(dir, "plugins_registry", "nic.sock"), &plugin{info: nicInfo(), ids: []string{"a", "b", "c", "broken"}, prefer: []string{"c", "none", "a"}})
	m.RequireFor(t, nic, patience, func(r Resource) bool { return len(r.Healthy) == 4 })
	ids, answer, err := m.Allocate(nic, 2)
	if err != nil || !slices.Equal(ids, []string{"a", "c"}) || answer.GetEnvs()["N"] != "xx" {
		t.Errorf("%v, %v, %v", ids, answer, err)
	}
	if _, _, err = m.Allocate(nic, 2); err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Error(err)
	}
	if _, _, err = m.Allocate(nic, 3); err == nil || !strings.Contains(err.Error(), "Requested: 3, Available: 2") {
		t.Error(err)
	}
	m.Free(nic, "c")
	if ids, _, err = m.Allocate(nic, 1); err != nil || !slices.Equal(ids, []string{"c"}) {
		t.Errorf("%v, %v", ids, err)
	}
	if got := m.Resources()[nic].Allocated; !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("allocated %v", got)
	}
	if err = m.Wait(nic, func(h, u []string) bool { return len(h) == 0 }, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "4 healthy") {
		t.Error(err)
	}
	m.Hangup(nic)
	m.RequireFor(t, nic, patience, func(r Resource) bool { return len(r.Healthy) == 0 && len(r.Unhealthy) == 4 })
}

// An older kubelet takes the end of one plugin for that of the next.
func TestOlder(t *testing.T) {
	dir := t.TempDir()
	m := StartDeviceManager(t, dir, WithoutWatcher(), Older())
	p := serve(t, filepath.Join(dir, "device-plugins", "one.sock"), &plugin{ids: []string{"a"}})
	serve(t, filepath.Join(dir, "device-plugins", "two.sock"), &plugin{ids: []string{"b"}})
	for _, name := range []string{"one.sock", "two.sock"} {
		if err := callRegister(t, dir, nic, "v1beta1", name); err != nil {
			t.Fatal(err)
		}
	}
	m.RequireFor(t, nic, patience, func(r Resource) bool { return healthy("b")(r) && len(r.Sockets) == 1 })
	p.stop()
	m.RequireFor(t, nic, patience, func(r Resource) bool { return len(r.Healthy) == 0 && len(r.Sockets) == 0 })
}
