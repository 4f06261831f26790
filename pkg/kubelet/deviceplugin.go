package kubelet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// DevicePlugin serves one resource to kubelet.
type DevicePlugin struct {
	Resource   string // "vendor.com/name"
	KubeletDir string // /var/lib/kubelet
	Watch      *Watch // of KubeletDir, which plugins share; nil: one of its own
	// Allocate says what a container gets with devices. It is called once for
	// each container, with the devices as kubelet asked for them. Kubelet
	// waits for it without limit and fails the pod on an error.
	Allocate func(ctx context.Context, ids []string) (*deviceplugin.ContainerAllocateResponse, error)
	// Prefer chooses `size` of the available devices, and those in `must`
	// among them; nil: kubelet chooses alone.
	Prefer func(available, must []string, size int) ([]string, error)
	Log    *slog.Logger

	pace *pace // nil: as on a node

	mu      sync.Mutex
	offered bool                   // Offer was called
	list    []*deviceplugin.Device // sorted by ID, never changed in place
	changed chan struct{}          // closed when the list is replaced; nil when nobody waits
	status  PluginStatus
	streams map[Registered]int // open ones, by the door that kubelet came through
	info    time.Time          // when kubelet's plugin watcher last asked who this is
	silent  time.Time          // since when there is no stream
	wake    chan struct{}      // tells Run to look; nil when it does not run
}

// Registered is the way in which kubelet knows a plugin.
type Registered string

// The ways to be registered.
const (
	Unregistered Registered = ""
	ByWatcher    Registered = "plugin watcher"
	ByRegister   Registered = "Register"
)

// PluginStatus is what a plugin knows about itself.
type PluginStatus struct {
	Registered Registered
	Since      time.Time // when Registered last changed; zero before the first registration
	Streams    int       // open ListAndWatch streams; kubelet has one
	Error      string    // why kubelet has no list now; empty when it has one
}

// Status tells how the plugin does.
func (p *DevicePlugin) Status() PluginStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Run serves until ctx ends. What can change for the better on a node is
// tried again for ever; the error is of kind Invalid: another configuration
// is needed. It runs once at a time.
func (p *DevicePlugin) Run(ctx context.Context) error {
	r, err := newPluginRun(p)
	if err != nil {
		return err
	}
	p.started(r.wake)
	defer p.ended()
	defer r.stop()
	r.loop(ctx)
	return nil
}

func (p *DevicePlugin) started(wake chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake, p.status, p.info, p.silent, p.streams = wake, PluginStatus{Error: "kubelet has not come yet"}, time.Time{}, time.Now(), map[Registered]int{}
}

func (p *DevicePlugin) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = nil
	p.register(Unregistered)
	p.status.Error = "the plugin has ended"
}

// register notes how kubelet knows the plugin. The caller holds mu.
func (p *DevicePlugin) register(how Registered) {
	if p.status.Registered != how {
		p.status.Registered, p.status.Since = how, time.Now()
		p.logRegistered()
	}
	p.rouse()
}

func (p *DevicePlugin) logRegistered() {
	if p.status.Registered == Unregistered {
		p.Log.Info("kubelet does not follow the device plugin any more", "resource", p.Resource)
	} else {
		p.Log.Info("kubelet has registered the device plugin", "resource", p.Resource, "by", string(p.status.Registered))
	}
}

// rouse makes Run look. The caller holds mu.
func (p *DevicePlugin) rouse() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look already, or does not run
	}
}

// registered notes a registration that kubelet confirmed.
func (p *DevicePlugin) registered(how Registered) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Error = ""
	if p.streams[ByWatcher] == 0 || how == ByWatcher {
		p.register(how)
	}
}

// failed notes why kubelet has no list, and logs it when it is news.
func (p *DevicePlugin) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.Error == err.Error() {
		return
	}
	p.status.Error = err.Error()
	p.Log.Warn("the device plugin is not served to kubelet", "resource", p.Resource, "error", err.Error())
}

// asked notes that kubelet's plugin watcher has come.
func (p *DevicePlugin) asked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info = time.Now()
}

// stream counts an open stream in or out. Without any, kubelet calls all
// devices unhealthy and waits for another registration.
func (p *DevicePlugin) stream(how Registered, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[how] += more
	p.status.Streams += more
	switch {
	case p.streams[ByWatcher] > 0:
		p.register(ByWatcher)
	case p.streams[ByRegister] > 0:
		p.register(ByRegister)
	default:
		p.silent = time.Now()
		p.status.Error = "kubelet has ended the connection and has not come again yet"
		p.register(Unregistered)
		return
	}
	p.status.Error = ""
}
