package provision

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Writer changes PCI functions. sriov.Linux is one.
type Writer interface {
	// SetVFs writes the number of a PF's VFs. It may take minutes.
	SetVFs(pf string, n int) error
	// SetAutoprobe says whether new VFs of a PF get a driver by themselves.
	SetAutoprobe(pf string, on bool) error
	// Bind ties a function to a driver and binds it; "" is the kernel's choice.
	Bind(pci, driver string) error
}

// Options say where a Provisioner works.
type Options struct {
	Sys    sriov.Sysfs
	Kernel sriov.Kernel
	Writer Writer
	Claims sriov.Claims

	// Allocated asks kubelet which pod has which device: namespace/name by PCI
	// address. While it fails, nothing that a pod could have is touched. nil =
	// the node has no kubelet.
	Allocated func(context.Context) (map[string]string, error)
	// Lives reports whether a namespace of a pod of sriov-cni's is there; nil:
	// each counts as there.
	Lives func(podns.Ref) bool

	StateDir   string
	BootIDPath string // /proc/sys/kernel/random/boot_id
	UdevDir    string // /run/udev/rules.d; "" = NetworkManager is told nothing
	NMDir      string // /etc/NetworkManager: it is told only where this exists

	Log *slog.Logger
	Now func() time.Time

	Timeout time.Duration // for a driver that makes VFs, and for what follows from it
	Retry   time.Duration // until the second try; it grows from there
	// Grace is how long a VF that may have been offered is withheld before it
	// is changed: a pod that was given it just before shows by then.
	Grace time.Duration
	// OnChange is called when Withhold may answer something new. It must not
	// wait.
	OnChange func()
}

// Provisioner brings PFs to what the configuration wishes.
type Provisioner struct {
	Options
	boot string
	poke chan struct{}

	mu      sync.Mutex
	targets []*target
	busy    map[string]bool // PFs by PCI address, also of targets that are gone
	told    string          // the last trouble with the records that the log has

	writing sync.Mutex // the status file
	status  []byte     // the last one
	written bool       // and the file says so
}

// New returns a provisioner that wishes nothing yet: what it did before stays
// until Configure.
func New(o Options) (*Provisioner, error) {
	boot, err := podns.BootID(o.BootIDPath)
	if err != nil {
		return nil, network.IO.Errorf("%w", err)
	}
	for _, d := range []struct {
		value  *time.Duration
		normal time.Duration
	}{{&o.Timeout, 2 * time.Minute}, {&o.Retry, time.Second}, {&o.Grace, 3 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.normal
		}
	}
	if o.OnChange == nil {
		o.OnChange = func() {}
	}
	return &Provisioner{Options: o, boot: boot, poke: make(chan struct{}, 1), busy: map[string]bool{}}, nil
}

// Configure takes a new wish. A PF that is in it no more goes back to what it
// was: call it only with what was read in full. What is done already is known
// when it returns, and Withhold says so.
func (p *Provisioner) Configure(pfs []resource.PF) {
	p.mu.Lock()
	p.wish(pfs)
	p.plan()
	p.mu.Unlock()
	p.publish()
	p.signal()
}

// Poke says that something about the node's devices has changed.
func (p *Provisioner) Poke() {
	p.mu.Lock()
	for _, t := range p.targets {
		if t.status.State != Failed { // that may be its own doing
			t.due = time.Time{}
		}
	}
	p.mu.Unlock()
	p.signal()
}

func (p *Provisioner) signal() {
	select {
	case p.poke <- struct{}{}:
	default: // one is on its way
	}
}

// leaving is how long Run waits at its end for what it has begun. A driver
// that hangs is not waited for.
const leaving = 2 * time.Second

// Run works until ctx ends. PFs do not wait for each other.
func (p *Provisioner) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for {
		timer := time.NewTimer(p.pass(ctx, &workers))
		select {
		case <-timer.C:
		case <-p.poke:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			leave(ctx, &workers)
			return nil
		}
	}
}

// leave waits for what was begun, and not for long once ctx has ended.
func leave(ctx context.Context, workers *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() {
		workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(leaving):
	}
}

// resync is how often a PF is looked at when nothing shows.
const resync = 5 * time.Minute

// pass begins what is due, and returns when to look again.
func (p *Provisioner) pass(ctx context.Context, workers *sync.WaitGroup) time.Duration {
	p.mu.Lock()
	p.plan()
	now, next := p.Now(), resync
	for _, t := range p.targets {
		if t.pci != "" && p.busy[t.pci] {
			continue // its end wakes us
		}
		if wait := t.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if t.pci == "" {
			t.due = now.Add(absence * p.Retry)
			next = min(next, absence*p.Retry)
			continue
		}
		p.busy[t.pci] = true
		job := p.job(t)
		workers.Go(func() {
			defer p.free(job.pci)
			if err := job.do(ctx); ctx.Err() == nil {
				p.finish(t, job, err)
			}
		})
	}
	p.mu.Unlock()
	p.publish()
	return next
}

// free lets the next one work on a PF.
func (p *Provisioner) free(pci string) {
	p.mu.Lock()
	delete(p.busy, pci)
	p.mu.Unlock()
	p.signal()
}

// Undo brings every PF back, once, and says what could not be. Nothing else
// may run.
func (p *Provisioner) Undo(ctx context.Context) error {
	p.Configure(nil)
	var workers sync.WaitGroup
	p.mu.Lock()
	for _, t := range p.targets {
		t.since, t.due = p.Now().Add(-p.Grace), time.Time{} // nobody offers them any more
	}
	p.mu.Unlock()
	p.pass(ctx, &workers)
	leave(ctx, &workers)
	_, err := p.records()
	err = errors.Join(err, p.troubles())
	p.mu.Lock()
	p.plan()
	p.mu.Unlock()
	p.publish()
	return err
}
