package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const vf = "intel.com/sriov"

// lockedLog is for the log of several goroutines.
type lockedLog struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// plugged is a plugin that runs.
type plugged struct {
	*DevicePlugin
	ctx context.Context
	log *lockedLog
	end func()
}

// plug makes a plugin on dir; change may change it before it runs.
func plug(t *testing.T, dir string, change func(*DevicePlugin)) *plugged {
	t.Helper()
	log := &lockedLog{}
	p := &DevicePlugin{
		Resource: vf, KubeletDir: dir, Log: slog.New(slog.NewTextHandler(log, nil)),
		Allocate: func(_ context.Context, ids []string) (*deviceplugin.ContainerAllocateResponse, error) {
			slices.Sort(ids)
			return &deviceplugin.ContainerAllocateResponse{Envs: map[string]string{"DEVICES": strings.Join(ids, ",")}}, nil
		},
		// The poll is too late for any test: events must do. A kubelet that is
		// slow to come is waited for as long, so that it registers the plugin
		// as often as it must: tests of one that does not come say so.
		pace: &pace{patience: time.Hour, settle: time.Hour, lost: time.Hour, begins: 50 * time.Millisecond,
			tick: 50 * time.Millisecond, poll: time.Hour, slowest: 500 * time.Millisecond},
	}
	p.Offer(devices("a", "b", "!c"))
	if change != nil {
		change(p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := p.Status().Streams; got != 0 {
			t.Errorf("%d streams after the end", got)
		}
	})
	t.Cleanup(end)
	return &plugged{p, ctx, log, end}
}

// devices with "!" are unhealthy.
func devices(ids ...string) []*deviceplugin.Device {
	var all []*deviceplugin.Device
	for _, id := range ids {
		d := &deviceplugin.Device{ID: strings.TrimPrefix(id, "!"), Health: deviceplugin.Healthy}
		if d.ID != id {
			d.Health = deviceplugin.Unhealthy
		}
		all = append(all, d)
	}
	return all
}

// standstill is longer than a busy machine keeps a kubelet that is there from
// coming to a plugin.
const standstill = 10 * time.Second

// has waits until kubelet has these devices, from one plugin.
func has(t *testing.T, m *kubelettest.DeviceManager, healthy, unhealthy string, registrations int) {
	t.Helper()
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool {
		return strings.Join(r.Healthy, "") == healthy && strings.Join(r.Unhealthy, "") == unhealthy &&
			len(r.Sockets) == 1 && (registrations == 0 || r.Registrations == registrations)
	})
}

// eventually waits for what no event tells the test of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}

// sockets are those of plugins in a directory.
func sockets(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if strings.Contains(entry.Name(), "multiplexer") {
			names = append(names, entry.Name())
		}
	}
	return names
}

func (p *plugged) is(t *testing.T, how Registered) {
	t.Helper()
	eventually(t, fmt.Sprintf("registered by %q", how), func() bool {
		s := p.Status()
		return s.Registered == how && s.Streams == 1 && s.Error == "" && !s.Since.IsZero()
	})
}

// bothWays runs a test with a kubelet that has a plugin watcher and with one
// that has none.
func bothWays(t *testing.T, test func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered)) {
	t.Run("watcher", func(t *testing.T) {
		dir := shortDir(t)
		test(t, kubelettest.StartDeviceManager(t, dir), dir, ByWatcher)
	})
	t.Run("register", func(t *testing.T) {
		dir := shortDir(t)
		test(t, kubelettest.StartDeviceManager(t, dir, kubelettest.WithoutWatcher()), dir, ByRegister)
	})
}

func TestPluginServes(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		p := plug(t, dir, func(p *DevicePlugin) {
			p.Prefer = func(available, _ []string, size int) ([]string, error) {
				slices.Sort(available)
				return available[len(available)-size:], nil
			}
		})
		has(t, m, "ab", "c", 1)
		p.is(t, how)
		// At best a change takes less than a second: what is slow now and then
		// is the machine.
		fastest := time.Hour
		for range 8 {
			at := time.Now()
			p.Offer(devices("c", "b", "a", "!d"))
			has(t, m, "abc", "d", 1)
			if fastest = min(fastest, time.Since(at)); fastest < time.Second {
				break
			}
			p.Offer(devices("a"))
			has(t, m, "a", "", 1)
		}
		if fastest >= time.Second {
			t.Errorf("a change took %s", fastest)
		}
		lists := m.Resources()[vf].Lists
		p.Offer(devices("a", "b", "c", "!d"))
		p.Offer(devices("a", "b", "c", "!d", "!e"))
		has(t, m, "abc", "de", 1)
		if got := m.Resources()[vf].Lists; got != lists+1 {
			t.Errorf("%d lists for one change", got-lists)
		}
		ids, answer, err := m.Allocate(vf, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(ids, ","); got != "b,c" || answer.GetEnvs()["DEVICES"] != got {
			t.Errorf("allocated %s, told %v", got, answer)
		}
		for _, name := range append(sockets(t, filepath.Join(dir, watcherDir)), sockets(t, filepath.Join(dir, registerDir))...) {
			if !strings.HasPrefix(name, "multiplexer-intel.com_sriov") {
				t.Errorf("socket %s", name)
			}
		}
		p.end()
		m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return len(r.Healthy) == 0 && len(r.Unhealthy) == 5 })
		if left := append(sockets(t, filepath.Join(dir, watcherDir)), sockets(t, filepath.Join(dir, registerDir))...); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// Kubelet restarts, alone and with its directories made again.
func TestPluginOutlivesKubelet(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		p := plug(t, dir, func(p *DevicePlugin) {
			if how == ByWatcher {
				p.pace.begins = time.Hour
			}
		})
		has(t, m, "ab", "c", 1)
		for i := range 5 {
			m.RequireRestart(t)
			has(t, m, "ab", "c", i+2)
			p.is(t, how)
		}
		for range 3 {
			before := m.Resources()[vf].Registrations
			m.RequireStop(t)
			for _, of := range []string{watcherDir, registerDir} {
				// The plugin may make a socket there meanwhile.
				eventually(t, of+" is removed", func() bool { return os.RemoveAll(filepath.Join(dir, of)) == nil })
			}
			m.RequireRestart(t)
			has(t, m, "ab", "c", 0)
			p.is(t, how)
			if got := m.Resources()[vf].Registrations; got != before+1 {
				t.Errorf("%d registrations", got-before)
			}
		}
		if all := sockets(t, filepath.Join(dir, registerDir)); how == ByWatcher && len(all) > 0 {
			t.Errorf("registered twice: %v", all)
		}
		p.Offer(devices("z"))
		has(t, m, "z", "", 0)
	})
}

// The plugin is there before kubelet, which comes without any notice but its
// socket.
func TestPluginBeforeKubelet(t *testing.T) {
	dir := shortDir(t)
	p := plug(t, dir, nil)
	eventually(t, "says what is missing", func() bool {
		return strings.Contains(p.Status().Error, filepath.Join(dir, registerDir, registerAt)+" is missing")
	})
	m := kubelettest.StartDeviceManager(t, dir)
	has(t, m, "ab", "c", 0)
	p.is(t, ByWatcher)
}

// Somebody deletes the socket while kubelet is connected.
func TestPluginSocketDeleted(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		p := plug(t, dir, nil)
		has(t, m, "ab", "c", 1)
		p.is(t, how)
		of := watcherDir
		if how == ByRegister {
			of = registerDir
		}
		for i := range 3 {
			before := sockets(t, filepath.Join(dir, of))
			if len(before) != 1 {
				t.Fatalf("sockets %v", before)
			}
			if err := os.Remove(filepath.Join(dir, of, before[0])); err != nil {
				t.Fatal(err)
			}
			has(t, m, "ab", "c", i+2)
			p.is(t, how)
		}
	})
}

// Kubelet breaks the connection and does not come again by itself.
func TestPluginHungUp(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		t.Parallel()
		p := plug(t, dir, func(p *DevicePlugin) { p.pace.lost = standstill })
		has(t, m, "ab", "c", 1)
		p.is(t, how)
		m.Hangup(vf)
		has(t, m, "ab", "c", 2)
		p.is(t, how)
	})
}

func TestPluginRefused(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		m.Refuse(vf, "the moon is full")
		p := plug(t, dir, nil)
		eventually(t, "says why", func() bool { return strings.Contains(p.Status().Error, "the moon is full") })
		if s := p.Status(); s.Registered != Unregistered || !strings.Contains(s.Error, vf) {
			t.Errorf("status %+v", s)
		}
		m.Refuse(vf, "")
		has(t, m, "ab", "c", 1)
		p.is(t, how)
		if got := strings.Count(p.log.String(), "the moon is full"); got != 1 {
			t.Errorf("said %d times:\n%s", got, p.log)
		}
	})
}

// The watcher's directory is there, and nobody looks into it. A kubelet that
// does comes later.
func TestPluginFallsBack(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	if err := os.Mkdir(filepath.Join(dir, watcherDir), 0o755); err != nil {
		t.Fatal(err)
	}
	old := kubelettest.StartDeviceManager(t, dir, kubelettest.WithoutWatcher())
	p := plug(t, dir, func(p *DevicePlugin) { p.pace.patience, p.pace.settle = time.Second, standstill })
	has(t, old, "ab", "c", 1)
	p.is(t, ByRegister)
	if !strings.Contains(p.log.String(), "plugin watcher does not come to "+filepath.Join(dir, watcherDir)) {
		t.Errorf("log:\n%s", p.log)
	}
	old.RequireRestart(t)
	has(t, old, "ab", "c", 2)
	p.is(t, ByRegister)
	old.RequireStop(t)
	upgraded := kubelettest.StartDeviceManager(t, dir)
	has(t, upgraded, "ab", "c", 1)
	p.is(t, ByWatcher)
	if all := sockets(t, filepath.Join(dir, registerDir)); len(all) > 0 {
		t.Errorf("registered twice: %v", all)
	}
}

// A reconfigured node: the directory of the watcher appears while Register
// works. That goes on until the watcher has come.
func TestPluginKeepsRegister(t *testing.T) {
	dir := shortDir(t)
	m := kubelettest.StartDeviceManager(t, dir, kubelettest.WithoutWatcher())
	p := plug(t, dir, nil)
	has(t, m, "ab", "c", 1)
	if err := os.Mkdir(filepath.Join(dir, watcherDir), 0o755); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a socket for the watcher", func() bool { return len(sockets(t, filepath.Join(dir, watcherDir))) == 1 })
	p.Offer(devices("z"))
	has(t, m, "z", "", 1)
	p.is(t, ByRegister)
}

// An Allocate under way is answered before the end, although kubelet cuts the
// connection as soon as the list ends.
func TestPluginEndsWithAnAnswer(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, _ Registered) {
		begun, ending := make(chan bool), make(chan bool)
		p := plug(t, dir, func(p *DevicePlugin) {
			p.Allocate = func(ctx context.Context, _ []string) (*deviceplugin.ContainerAllocateResponse, error) {
				close(begun)
				<-ending
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(300 * time.Millisecond): // it takes its time
					return &deviceplugin.ContainerAllocateResponse{Envs: map[string]string{"X": "y"}}, nil
				}
			}
		})
		has(t, m, "ab", "c", 1)
		answered := make(chan error, 1)
		go func() {
			_, got, err := m.Allocate(vf, 1)
			if err == nil && got.GetEnvs()["X"] != "y" {
				err = fmt.Errorf("answer %v", got)
			}
			answered <- err
		}()
		<-begun
		context.AfterFunc(p.ctx, func() { close(ending) })
		p.end()
		if err := <-answered; err != nil {
			t.Error(err)
		}
		m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return len(r.Healthy) == 0 })
	})
}

// lateReader is a connection of a kubelet that is slow to read.
type lateReader struct{ net.Conn }

func (l lateReader) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	time.Sleep(100 * time.Millisecond)
	return n, err
}

// A kubelet that sees that the socket's file is gone cuts the connection: it has
// read by then what it was answered.
func TestPluginEndsBehindItsAnswer(t *testing.T) {
	dir := mounted(t)
	begun, ending := make(chan bool), make(chan bool)
	p := plug(t, dir, func(p *DevicePlugin) {
		p.Allocate = func(context.Context, []string) (*deviceplugin.ContainerAllocateResponse, error) {
			close(begun)
			<-ending
			return &deviceplugin.ContainerAllocateResponse{}, nil
		}
	})
	p.api(t) // its socket is there
	path := filepath.Join(dir, watcherDir, "multiplexer-intel.com_sriov.sock")
	conn, err := grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			unix, dialErr := (&net.Dialer{}).DialContext(ctx, "unix", path)
			return lateReader{unix}, dialErr
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kubelet := deviceplugin.NewDevicePluginClient(conn)
	stream, err := kubelet.ListAndWatch(t.Context(), &deviceplugin.Empty{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, failed := kubelet.Allocate(t.Context(), &deviceplugin.AllocateRequest{ContainerRequests: []*deviceplugin.ContainerAllocateRequest{{DevicesIds: []string{"a"}}}})
		answered <- failed
	}()
	<-begun
	context.AfterFunc(p.ctx, func() { close(ending) })
	cut := make(chan error, 2)
	go func() { // what kubelet does at the end of its list, and of the file
		_, streamErr := stream.Recv()
		cut <- streamErr
	}()
	ended := make(chan bool)
	go func() {
		p.end()
		close(ended)
	}()
	for end := time.Now().Add(patience); len(cut) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, statErr := os.Lstat(path); statErr != nil {
			break
		}
	}
	_ = conn.Close()
	if err = <-answered; err != nil {
		t.Error(err)
	}
	<-ended
}

func TestPluginInvalid(t *testing.T) {
	long := "/" + strings.Repeat("x", 80)
	for want, p := range map[string]*DevicePlugin{
		`resource "sriov": want a prefix`:                           {Resource: "sriov", KubeletDir: "/k"},
		`resource "kubernetes.io/sriov": want a prefix`:             {Resource: "kubernetes.io/sriov", KubeletDir: "/k"},
		`resource "intel.com/../x": `:                               {Resource: "intel.com/../x", KubeletDir: "/k"},
		`kubelet's directory "k": want an absolute path`:            {Resource: vf, KubeletDir: "k"},
		"kubelet's directory " + long + " is too long for a socket": {Resource: vf, KubeletDir: long},
	} {
		p.Log = slog.New(slog.DiscardHandler)
		p.Allocate = func(context.Context, []string) (*deviceplugin.ContainerAllocateResponse, error) { return nil, nil }
		if err := p.Run(t.Context()); !errors.Is(err, network.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (&DevicePlugin{Resource: vf, KubeletDir: "/k"}).Run(t.Context()); !errors.Is(err, network.Invalid) {
		t.Errorf("without callbacks: %v", err)
	}
}
