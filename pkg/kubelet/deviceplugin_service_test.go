package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// api speaks to the plugin as kubelet does.
func (p *plugged) api(t *testing.T) deviceplugin.DevicePluginClient {
	t.Helper()
	path := filepath.Join(p.KubeletDir, watcherDir, "multiplexer-intel.com_sriov.sock")
	eventually(t, "a socket", func() bool { return !dead(path) })
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return deviceplugin.NewDevicePluginClient(conn)
}

func many(n int, health func(i int) string) []*deviceplugin.Device {
	var all []*deviceplugin.Device
	for i := range n {
		all = append(all, &deviceplugin.Device{
			ID: fmt.Sprintf("0000:%02x:%02x.%d", 0x80+i/256, i/8%32, i%8), Health: health(i),
			Topology: &deviceplugin.TopologyInfo{Nodes: []*deviceplugin.NUMANode{{ID: int64(i % 2)}}},
		})
	}
	return all
}

func TestPluginManyDevices(t *testing.T) {
	const n = 512
	dir := shortDir(t)
	m := kubelettest.StartDeviceManager(t, dir)
	healthy := func(int) string { return deviceplugin.Healthy }
	p := plug(t, dir, func(p *DevicePlugin) { p.Offer(many(n, healthy)) })
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return len(r.Healthy) == n })
	before := m.Resources()[vf].Lists
	// A driver that is reloaded takes all away, one after the other.
	for last := range n {
		p.Offer(many(n, func(i int) string {
			if i <= last {
				return deviceplugin.Unhealthy
			}
			return deviceplugin.Healthy
		}))
	}
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return len(r.Unhealthy) == n })
	if got := m.Resources()[vf].Lists - before; got > n {
		t.Errorf("%d lists of %d changes", got, n)
	}
}

// The order is that of the IDs, whatever the caller's, and who reads late
// gets the last list.
func TestPluginList(t *testing.T) {
	p := plug(t, mounted(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := p.api(t).ListAndWatch(ctx, &deviceplugin.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() string {
		list, rerr := stream.Recv()
		if rerr != nil {
			t.Fatal(rerr)
		}
		var ids []string
		for _, d := range list.GetDevices() {
			ids = append(ids, d.GetID())
		}
		return strings.Join(ids, "")
	}
	if got := next(); got != "abc" {
		t.Errorf("first %s", got)
	}
	mutable := devices("z", "y", "!y", "x")
	p.Offer(mutable)
	mutable[0].ID = "changed later"
	if got := next(); got != "xyz" {
		t.Errorf("then %s", got)
	}
	p.Offer(nil)
	if got := next(); got != "" {
		t.Errorf("then %s", got)
	}
	eventually(t, "one stream", func() bool { return p.Status().Streams == 1 })
	cancel()
	eventually(t, "no stream", func() bool { return p.Status().Streams == 0 })
}

// A plugin that does not know its devices yet says nothing, so that kubelet
// keeps what it knows.
func TestPluginWithoutList(t *testing.T) {
	dir := shortDir(t)
	m := kubelettest.StartDeviceManager(t, dir)
	p := plug(t, dir, func(p *DevicePlugin) { p.offered = false })
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return r.Registrations == 1 })
	p.is(t, ByWatcher)
	if got := m.Resources()[vf].Lists; got != 0 {
		t.Errorf("%d lists", got)
	}
	p.Offer(nil)
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return r.Lists == 1 })
}

func TestPluginStreamsEnd(t *testing.T) {
	dir := shortDir(t)
	m := kubelettest.StartDeviceManager(t, dir)
	p := plug(t, dir, nil)
	has(t, m, "ab", "c", 1)
	before := runtime.NumGoroutine()
	for range 20 {
		m.RequireRestart(t)
		has(t, m, "ab", "c", 0)
		p.is(t, ByWatcher)
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// mounted is kubelet's directory without a kubelet.
func mounted(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Mkdir(filepath.Join(dir, watcherDir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPluginAllocateFails(t *testing.T) {
	var failure error
	p := plug(t, mounted(t), func(p *DevicePlugin) {
		p.Allocate = func(_ context.Context, ids []string) (*deviceplugin.ContainerAllocateResponse, error) {
			if slices.Contains(ids, "bad") {
				return nil, failure
			}
			return &deviceplugin.ContainerAllocateResponse{Envs: map[string]string{"IDS": strings.Join(ids, ",")}}, nil
		}
	})
	api := p.api(t)
	request := func(containers ...string) (*deviceplugin.AllocateResponse, error) {
		r := &deviceplugin.AllocateRequest{}
		for _, ids := range containers {
			r.ContainerRequests = append(r.ContainerRequests, &deviceplugin.ContainerAllocateRequest{DevicesIds: strings.Split(ids, ",")})
		}
		return api.Allocate(t.Context(), r)
	}
	answer, err := request("b,a", "c")
	if err != nil || len(answer.GetContainerResponses()) != 2 || answer.GetContainerResponses()[0].GetEnvs()["IDS"] != "b,a" || answer.GetContainerResponses()[1].GetEnvs()["IDS"] != "c" {
		t.Errorf("%v, %v", answer, err)
	}
	for _, c := range []struct {
		failure error
		code    codes.Code
		text    string
	}{
		{network.Invalid.Errorf("device bad: name it well"), codes.InvalidArgument, "resource intel.com/sriov: device bad: name it well"},
		{network.Missing.Errorf("device bad is gone"), codes.NotFound, "resource intel.com/sriov: device bad is gone"},
		{network.Unknown.Errorf("device bad is not here"), codes.NotFound, "resource intel.com/sriov: device bad is not here"},
		{network.IO.Errorf("cannot write"), codes.Internal, "resource intel.com/sriov: cannot write"},
		{fmt.Errorf("wrapped: %w", network.Again.Errorf("device bad is being restored")), codes.Unavailable,
			"resource intel.com/sriov: wrapped: device bad is being restored; a later try may succeed, but kubelet makes none for this pod: let its controller make another, or delete the pod and create it again"},
		{errors.New("of no kind"), codes.Unknown, "resource intel.com/sriov: of no kind"},
	} {
		failure = c.failure
		_, err = request("a", "bad")
		if got := status.Convert(err); got.Code() != c.code || got.Message() != c.text {
			t.Errorf("%s: %s", got.Code(), got.Message())
		}
	}
	if _, err = api.PreStartContainer(t.Context(), &deviceplugin.PreStartContainerRequest{DevicesIds: []string{"a"}}); err != nil {
		t.Error(err)
	}
}

func TestPluginPrefers(t *testing.T) {
	request := &deviceplugin.PreferredAllocationRequest{ContainerRequests: []*deviceplugin.ContainerPreferredAllocationRequest{
		{AvailableDeviceIDs: []string{"a", "b", "c"}, MustIncludeDeviceIDs: []string{"c"}, AllocationSize: 2},
		{AvailableDeviceIDs: []string{"a"}, AllocationSize: 9},
	}}
	p := plug(t, mounted(t), func(p *DevicePlugin) {
		p.Prefer = func(available, must []string, size int) ([]string, error) {
			if size > len(available) {
				return nil, fmt.Errorf("no %d of %d", size, len(available))
			}
			return append(slices.Clone(must), available[:size-len(must)]...), nil
		}
	})
	api := p.api(t)
	options, err := api.GetDevicePluginOptions(t.Context(), &deviceplugin.Empty{})
	if err != nil || !options.GetGetPreferredAllocationAvailable() || options.GetPreStartRequired() {
		t.Errorf("%v, %v", options, err)
	}
	answer, err := api.GetPreferredAllocation(t.Context(), request)
	if err != nil || len(answer.GetContainerResponses()) != 2 {
		t.Fatalf("%v, %v", answer, err)
	}
	if got := answer.GetContainerResponses()[0].GetDeviceIDs(); !slices.Equal(got, []string{"c", "a"}) {
		t.Errorf("prefers %v", got)
	}
	if got := answer.GetContainerResponses()[1].GetDeviceIDs(); len(got) != 0 || !strings.Contains(p.log.String(), "no 9 of 1") {
		t.Errorf("prefers %v, log:\n%s", got, p.log)
	}
	api = plug(t, mounted(t), nil).api(t)
	if options, err = api.GetDevicePluginOptions(t.Context(), &deviceplugin.Empty{}); err != nil || options.GetGetPreferredAllocationAvailable() {
		t.Errorf("%v, %v", options, err)
	}
	if _, err = api.GetPreferredAllocation(t.Context(), request); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// Another user is sent away even where the socket's mode lets him in.
func TestPluginForRoot(t *testing.T) {
	dir := mounted(t)
	p := plug(t, dir, nil)
	p.api(t)
	path := filepath.Join(dir, watcherDir, "multiplexer-intel.com_sriov.sock")
	for _, open := range []string{dir, filepath.Dir(path), path} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	outcome := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its user
		outcome <- readAs(65534, path)
	}()
	if err := <-outcome; err != nil {
		t.Error(err)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(p.log.String(), "the peer is user 65534, want root") })
}

// readAs reports a connection of this thread that is not closed at once.
func readAs(user int, path string) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(user), ^uintptr(0)); errno != 0 {
		return errno
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}); err != nil {
		return err
	}
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	// A gRPC server speaks first.
	if n, rerr := unix.Read(fd, make([]byte, 64)); n != 0 || rerr != nil {
		return fmt.Errorf("read %d bytes, %w", n, rerr)
	}
	return nil
}

func TestSocketNames(t *testing.T) {
	long := "a-vendor-with-a-long-name.example.com/" + strings.Repeat("x", 63)
	for _, c := range []struct{ dir, resource, tag, want string }{
		{"/var/lib/kubelet/plugins_registry", vf, "", "multiplexer-intel.com_sriov.sock"},
		{"/var/lib/kubelet/device-plugins", vf, "01234567", "multiplexer-intel.com_sriov-01234567.sock"},
	} {
		got, err := socketName(c.dir, c.resource, c.tag)
		if err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	one, _ := socketName("/var/lib/kubelet/plugins_registry", long, "")
	two, _ := socketName("/var/lib/kubelet/plugins_registry", long[:len(long)-1], "")
	if one == two || len(one) != len("multiplexer-0123456789abcdef.sock") {
		t.Errorf("%s and %s", one, two)
	}
	// The longest directory works, and one byte more does not.
	root := shortDir(t)
	dir := filepath.Join(root, strings.Repeat("d", maxSocketPath-len(root)-2-len(one)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name, err := socketName(dir, long, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := listenPlugin(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err = errors.Join(s.remove(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err = socketName(dir+"d", long, ""); !errors.Is(err, network.Invalid) || !strings.Contains(err.Error(), "the path would have 108 bytes, at most 107 are possible") {
		t.Error(err)
	}
	if _, err = net.Dial("unix", s.path); err == nil {
		t.Error("the socket is still there")
	}
}
