package provision_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// crash ends an agent at one of its changes: before it has an effect, or right
// after. Its locks go with it, as a process's do.
type crash struct {
	mu    sync.Mutex
	left  int
	after bool
	gone  chan struct{}
	kill  func()
}

func (c *crash) at(do func() error) error {
	c.mu.Lock()
	c.left--
	now, dead := c.left == 0, c.left < 0
	c.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
	if now && !c.after {
		c.end()
	}
	err := do()
	if now {
		c.end()
	}
	return err
}

func (c *crash) end() {
	close(c.gone)
	c.kill()
	runtime.Goexit()
}

type crashingWriter struct {
	provision.Writer
	*crash
}

func (w crashingWriter) SetVFs(pf string, n int) error {
	return w.at(func() error { return w.Writer.SetVFs(pf, n) })
}

func (w crashingWriter) SetAutoprobe(pf string, on bool) error {
	return w.at(func() error { return w.Writer.SetAutoprobe(pf, on) })
}

func (w crashingWriter) Bind(pci, driver string) error {
	return w.at(func() error { return w.Writer.Bind(pci, driver) })
}

type crashingKernel struct {
	sriov.Kernel
	*crash
}

func (k crashingKernel) Open(path string) (sriov.Netns, error) {
	n, err := k.Kernel.Open(path)
	return crashingNetns{n, k.crash}, err
}

type crashingNetns struct {
	sriov.Netns
	*crash
}

func (n crashingNetns) SetUp(index int, up bool) error {
	return n.at(func() error { return n.Netns.SetUp(index, up) })
}

func (n crashingNetns) SetMTU(index, mtu int) error {
	return n.at(func() error { return n.Netns.SetMTU(index, mtu) })
}

func (n crashingNetns) SetVF(pf, vf int, k sriov.Knob, a sriov.Admin) error {
	return n.at(func() error { return n.Netns.SetVF(pf, vf, k, a) })
}

// crashes runs an agent with this wish that ends at its nth change, and
// reports whether it had that many.
func (n *node) crashes(at int, after bool, wish ...resource.PF) bool {
	n.Helper()
	ctx, cancel := context.WithCancel(n.Context())
	c := &crash{left: at, after: after, gone: make(chan struct{}), kill: cancel}
	o := n.options
	o.Writer, o.Kernel = crashingWriter{o.Writer, c}, crashingKernel{o.Kernel, c}
	settled := make(chan struct{}, 1)
	var p *provision.Provisioner
	o.OnChange = func() {
		select {
		case settled <- struct{}{}:
		default:
		}
	}
	p, err := provision.New(o)
	n.must(err)
	p.Configure(wish)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		n.must(<-ended)
	}()
	for {
		select {
		case <-c.gone:
			return true
		case <-settled:
			if all := p.Status(); len(all) == 0 || all[0].State == provision.Done {
				select {
				case <-c.gone: // what it had still to write down is not its end
					return true
				default:
					return false
				}
			}
		}
	}
}

// Wherever an agent is killed, the next one goes on, and can undo all of it.
func TestCrashes(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			more := false
			t.Run(fmt.Sprintf("change %d, had effect %t", at, after), func(t *testing.T) {
				n := newNode(t, capable())
				n.card.Late = true
				n.card.Load("vfio-pci")
				n.must(n.card.SetAutoprobe("", false))
				more = n.crashes(at, after, n.want(2, "vfio-pci", 8000))
				stop := n.start(n.want(2, "vfio-pci", 8000))
				n.is(provision.Done)
				for i := range 2 {
					if d, _, admin := n.vf(i); d.Driver != "vfio-pci" || admin.MAC == "00:00:00:00:00:00" {
						t.Errorf("%s: driver %s, PF holds %+v", d, d.Driver, admin)
					}
				}
				stop()
				n.isUndone()
			})
			if !more {
				break
			}
		}
	}
}

// The same while the number of VFs changes, and while all is undone.
func TestCrashesLater(t *testing.T) {
	for _, wish := range [][]resource.PF{{{Name: "ens1f0", NumVFs: 3, MTU: 1400}}, nil} {
		for at := 1; ; at++ {
			more := false
			t.Run(fmt.Sprintf("to %v, change %d", wish, at), func(t *testing.T) {
				n := newNode(t, capable())
				n.card.Load("vfio-pci")
				stop := n.start(n.want(2, "vfio-pci", 8000))
				n.is(provision.Done)
				stop()
				more = n.crashes(at, at%2 == 0, wish...)
				stop = n.start(wish...)
				if wish != nil {
					n.is(provision.Done)
					if d, link, _ := n.vf(2); d.Driver != "capablevf" || link.MTU != 1400 {
						t.Errorf("%s: driver %s, %+v", d, d.Driver, link)
					}
				}
				stop()
				n.isUndone()
			})
			if !more {
				break
			}
		}
	}
}

// isUndone takes everything back, and looks whether it is as it was.
func (n *node) isUndone() {
	n.Helper()
	stop := n.start()
	n.eventually("undone", n.noRecord)
	stop()
	if up := n.uplink(); up.Up || up.MTU != 1500 || len(n.pf().VFs) != 0 {
		n.Errorf("PF is %+v, VFs %v", up, n.pf().VFs)
	}
}
