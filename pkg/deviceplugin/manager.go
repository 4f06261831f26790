package deviceplugin

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Manager is the device plugin of a node. Its fields are set before Run.
type Manager struct {
	Sys    sriov.Sysfs
	Kernel sriov.Kernel
	Claims sriov.Claims

	ConfigPath string // it may be absent, and may come and go
	Prefix     string // of resources without a resourcePrefix
	KubeletDir string // /var/lib/kubelet

	DeviceInfoDir string // the parent of dp and cni; "" = no device information
	CDIDir        string // for CDI specs; "" = device files are given without CDI
	DevDir        string // where the node's /dev is
	Rescan        time.Duration

	// Holders are the pods that kubelet gave devices to, namespace/name by the
	// devices' IDs, and when it was asked. Its answer nil: not known.
	Holders func() (holders map[string]string, asked time.Time)
	// Ask makes that answer newer soon. nil = it cannot be.
	Ask func()
	// Withhold says why a VF of a PF, or the PF, is not to be offered yet;
	// "" = they may. It is called after OnConfig.
	Withhold func(pf *sriov.PF, pci string) string
	// OnConfig is told of each configuration that comes into force.
	OnConfig func(*resource.Config)
	// OnChange is called after a look that something else than Recheck caused:
	// devices may have changed. nil = nobody wants to know.
	OnChange func()

	Log *slog.Logger
	Now func() time.Time

	pending pending
	routes  routeFilter
	notices notices
	files   sync.Mutex // held while device information and CDI specs are written

	mu      sync.Mutex
	config  configState
	items   map[string]*item     // what is listed, by PCI address
	waiting map[string]string    // why what is selected is not listed yet
	recent  map[string]time.Time // devices that kubelet has just allocated
	servers map[string]*server   // by resource
	kubelet *kubelet.Watch       // the servers'
	counts  counts

	view view // of the last look; Run's own
}

// item is a device that a resource lists.
type item struct {
	sriov.Offer
	function *sriov.Function    // nil while the node has it not
	selector *resource.Selector // that took it; nil after a restart while a pod has it and it is not selected
	reason   string             // why it is Unhealthy; "" = Healthy
	gone     time.Time          // since when the node has it not; zero = it has
}

// quiet is how long nothing must happen before a look, and patience how long
// one is put off at most.
const (
	quiet    = 100 * time.Millisecond
	patience = 500 * time.Millisecond
	// retry is when a look that failed in part is made again. It doubles each
	// time, so often at most.
	retry      = time.Second
	maxBackoff = 5
	// poll is how often to see whether pods gave up devices, while one waits
	// for that.
	poll = 5 * time.Second
)

// Run follows the node until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	m.pending.init()
	m.resume()
	m.watch(ctx, &running)
	m.pending.add(causeStart)
	timers := &timers{rescan: time.NewTimer(m.rescan()), again: time.NewTimer(time.Hour)}
	defer timers.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.pending.signal:
			if !m.settle(ctx) {
				return nil
			}
		case <-timers.rescan.C:
			m.pending.add(causeRescan)
		case <-timers.again.C:
			m.again()
		}
		causes := m.pending.take()
		if len(causes) > 0 {
			m.look(ctx, &running, causes)
			m.count(causes)
			m.changed(causes)
			timers.rescan.Reset(m.rescan())
		}
		m.retire()
		timers.again.Reset(m.nextLook())
	}
}

func (m *Manager) changed(causes map[string]bool) {
	if m.OnChange != nil && (len(causes) > 1 || !causes[causeAsked]) {
		m.OnChange()
	}
}

func (m *Manager) rescan() time.Duration { return max(m.Rescan, time.Second) }

// timers are Run's.
type timers struct{ rescan, again *time.Timer }

func (t *timers) stop() {
	t.rescan.Stop()
	t.again.Stop()
}

// Recheck makes the manager look again soon.
func (m *Manager) Recheck() {
	m.pending.init()
	m.pending.add(causeAsked)
}

// settle waits until nothing has happened for a moment: changes come in
// crowds. It reports whether to go on.
func (m *Manager) settle(ctx context.Context) bool {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		calm := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			calm.Stop()
			return false
		case <-enough.C:
			calm.Stop()
			return true
		case <-calm.C:
			return true
		case <-m.pending.signal:
			calm.Stop()
		}
	}
}

// The causes of a look.
const (
	causeStart   = "start"
	causeAsked   = "asked"
	causeRescan  = "rescan"
	causeRetry   = "retry"
	causeFreed   = "freed"
	causeUevent  = "uevent"
	causeLink    = "link"
	causeAddress = "address"
	causeRoute   = "route"
	causeClaim   = "claim"
	causeConfig  = "config"
	causeLost    = "lost" // the kernel had more to tell than we could hear
)

// pending are the causes for a look that is still to come.
type pending struct {
	once   sync.Once
	mu     sync.Mutex
	causes map[string]bool
	signal chan struct{}
}

func (p *pending) init() {
	p.once.Do(func() {
		p.causes = map[string]bool{}
		p.signal = make(chan struct{}, 1)
	})
}

func (p *pending) add(cause string) {
	p.mu.Lock()
	p.causes[cause] = true
	p.mu.Unlock()
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

func (p *pending) take() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	causes := p.causes
	p.causes = map[string]bool{}
	return causes
}
