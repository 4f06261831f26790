package provision_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const otherVF = "0000:01:10.1"

// waits returns once somebody waits for the PF's lock, which another has.
func (n *node) waits() {
	n.Helper()
	dir, err := filepath.EvalSymlinks(n.options.Claims.Dir)
	n.must(err)
	path := filepath.Join(dir, n.card.PFPCI()+".lock")
	n.eventually("somebody waits for the PF's lock", func() bool {
		fds, readErr := os.ReadDir("/proc/self/fd")
		n.must(readErr)
		open := 0
		for _, fd := range fds {
			if to, linkErr := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); linkErr == nil && to == path {
				open++
			}
		}
		return open > 1
	})
}

// links are the node's network devices by their functions' addresses.
func (n *node) links() map[string]sriov.Link {
	n.Helper()
	host, err := n.card.Open("")
	n.must(err)
	all, err := host.Links()
	n.must(err)
	out := map[string]sriov.Link{}
	for _, l := range all {
		out[l.PCI] = l
	}
	return out
}

// setMTU gives a function's network device another MTU, as somebody else does.
func (n *node) setMTU(pci string, mtu int) {
	n.Helper()
	host, err := n.card.Open("")
	n.must(err)
	n.must(host.SetMTU(n.links()[pci].Index, mtu))
}

// clock is one that a test sets ahead.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }
func (c *clock) begin(n *node) *clock {
	n.options.Now, n.options.Grace = c.now, time.Hour
	return c
}

// mtuKernel is one that is looked at when it sets an MTU.
type mtuKernel struct {
	sriov.Kernel
	after func(mtu int)
}

func (k mtuKernel) Open(path string) (sriov.Netns, error) {
	n, err := k.Kernel.Open(path)
	return mtuNetns{n, k}, err
}

type mtuNetns struct {
	sriov.Netns
	k mtuKernel
}

func (n mtuNetns) SetMTU(index, mtu int) error {
	err := n.Netns.SetMTU(index, mtu)
	n.k.after(mtu)
	return err
}

// What was offered until now is withheld first, and changed after the whole
// grace: however long the PF's lock takes, or kubelet's answer.
func TestGrace(t *testing.T) {
	for _, slow := range []string{"lock", "kubelet"} {
		for _, what := range []string{otherVF, "0000:01:00.0"} {
			t.Run(slow+", "+what, func(t *testing.T) {
				n := newNode(t, capable())
				c := (&clock{}).begin(n)
				var wrong, over atomic.Bool // the MTU is, the grace is
				early := func(what string) {
					if wrong.Load() && !over.Load() {
						t.Errorf("within the grace %s", what)
					}
				}
				n.options.Kernel = mtuKernel{n.card, func(int) { early("an MTU is set") }}
				ask := n.options.Allocated
				n.options.Allocated = func(ctx context.Context) (map[string]string, error) {
					early("kubelet is asked")
					if slow == "kubelet" {
						c.pass(2 * time.Hour)
					}
					return ask(ctx)
				}
				n.start(n.want(2, "", 8000))
				n.is(provision.Done)

				n.setMTU(what, 1400)
				wrong.Store(true)
				unlock := func() {}
				if slow == "lock" {
					var err error
					unlock, err = n.options.Claims.Lock(t.Context(), n.card.PFPCI())
					n.must(err)
					n.agent.Poke()
					n.waits()
					c.pass(2 * time.Hour)
				}
				unlock()
				n.agent.Poke()
				n.is(provision.Waiting, "is no longer offered")
				if why := n.agent.WithholdVF(n.pf(), otherVF); !strings.Contains(why, "is no longer offered") {
					t.Errorf("withheld for %q", why)
				}
				over.Store(true)
				c.pass(2 * time.Hour)
				n.agent.Poke()
				n.is(provision.Done)
				if l := n.links()[what]; l.MTU != 8000 {
					t.Errorf("it is %+v", l)
				}
			})
		}
	}
}

// A VF may be given until its own grace is over: what kubelet said before, for
// another VF of the PF, is too old.
func TestGraceOfEach(t *testing.T) {
	n := newNode(t, capable())
	c := (&clock{}).begin(n)
	var late atomic.Bool
	n.options.Kernel = mtuKernel{n.card, func(int) {
		if late.CompareAndSwap(true, false) { // it took the driver that long
			c.pass(2 * time.Hour)
			n.kubelet(map[string]string{otherVF: "shop/disk"})
		}
	}}
	n.start(n.want(2, "", 8000))
	n.is(provision.Done)
	release := n.claim(aVF, "boot 1")
	n.setMTU(aVF, 1400)
	n.agent.Poke()
	n.is(provision.Waiting, aVF, "shop/cart")
	c.pass(2 * time.Hour)
	n.setMTU(otherVF, 1400)
	n.agent.Poke()
	n.eventually("the other one is withheld", func() bool { return n.agent.WithholdVF(n.pf(), otherVF) != "" })
	late.Store(true)
	release()
	n.is(provision.Waiting, otherVF, "shop/disk")
	if links := n.links(); links[aVF].MTU != 8000 || links[otherVF].MTU != 1400 {
		t.Errorf("they are %+v", links)
	}
}

// A VF that waits to be changed stays withheld when a try ends before it looks
// at the VFs.
func TestTryThatEndsEarly(t *testing.T) {
	n := newNode(t, capable())
	n.card.Load("vfio-pci")
	n.start(n.want(2, "", 0))
	n.is(provision.Done)
	release := n.claim(aVF, "boot 1")
	n.agent.Configure([]resource.PF{n.want(2, "vfio-pci", 0)})
	n.is(provision.Waiting, "VF "+aVF, "shop/cart")
	unlock, err := n.options.Claims.Lock(t.Context(), n.card.PFPCI()) // it is written in no other moment
	n.must(err)
	record, err := os.ReadFile(n.recordPath())
	n.must(err)
	n.must(os.WriteFile(n.recordPath(), []byte("{"), 0o600))
	unlock()
	n.agent.Poke()
	n.is(provision.Failed, n.recordPath())
	if why := n.agent.WithholdVF(n.pf(), aVF); !strings.Contains(why, "shop/cart") {
		t.Errorf("withheld for %q", why)
	}
	n.must(os.WriteFile(n.recordPath(), record, 0o600))
	release()
	n.is(provision.Done)
	if d, _, _ := n.vf(0); d.Driver != "vfio-pci" {
		t.Errorf("%s: driver %s", d, d.Driver)
	}
}

// The VFs of a PF that is found again, and is not done, were not withheld while
// it was not there: their grace begins anew.
func TestGraceOfOneThatComesBack(t *testing.T) {
	n := newNode(t, capable())
	c := (&clock{}).begin(n)
	n.card.Load("vfio-pci")
	n.start(n.want(2, "", 0))
	n.is(provision.Done)
	release := n.claim(aVF, "boot 1")
	n.agent.Configure([]resource.PF{n.want(2, "vfio-pci", 0)})
	n.is(provision.Waiting, aVF, "shop/cart")
	// A try from before is still under way when the PF comes back.
	unlock, err := n.options.Claims.Lock(t.Context(), n.card.PFPCI())
	n.must(err)
	c.pass(2 * time.Hour)
	n.agent.Poke()
	n.waits()
	host, err := n.card.Open("")
	n.must(err)
	n.must(host.Rename(n.uplink().Index, "eth7"))
	n.agent.Poke()
	n.is(provision.Absent)
	release()
	n.must(host.Rename(n.links()[n.card.PFPCI()].Index, "ens1f0"))
	n.agent.Poke()
	n.is(provision.Working)
	unlock()
	n.is(provision.Waiting, aVF, "is no longer offered")
	c.pass(2 * time.Hour)
	n.agent.Poke()
	n.is(provision.Done)
}

// While another wish's try is under way nothing is known to be done, though
// the record says so; and that try leaves the PF alone when it gets its turn.
func TestBackAndForth(t *testing.T) {
	for name, other := range map[string][]resource.PF{"fewer": {{Name: "ens1f0", NumVFs: 2}}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, capable())
			c := (&clock{}).begin(n)
			n.start(n.want(4, "", 0))
			n.is(provision.Done)
			unlock, err := n.options.Claims.Lock(t.Context(), n.card.PFPCI())
			n.must(err)
			n.agent.Configure(other)
			n.waits()
			n.agent.Configure([]resource.PF{n.want(4, "", 0)})
			if why := n.agent.Withhold(n.pf()); !strings.Contains(why, "is being set up") {
				t.Errorf("withheld for %q", why)
			}
			c.pass(2 * time.Hour)
			unlock()
			n.is(provision.Done)
			if why := n.agent.Withhold(n.pf()); why != "" {
				t.Errorf("when it is done withheld for %q", why)
			}
			if got := n.card.Written(); !reflect.DeepEqual(got, []int{4}) || n.noRecord() {
				t.Errorf("written %v, no record: %t", got, n.noRecord())
			}
		})
	}
}

// gate is a kernel that is not reached before it opens.
type gate struct {
	sriov.Kernel
	reached func()
	open    chan struct{}
}

func (g gate) Open(path string) (sriov.Netns, error) {
	g.reached()
	<-g.open
	return g.Kernel.Open(path)
}

// An old agent may work while its successor starts. What it does under the
// PF's lock is its successor's too, not something else's.
func TestTwoAgents(t *testing.T) {
	for _, vfs := range []int{4, 2} {
		t.Run(fmt.Sprintf("the new one wishes %d", vfs), func(t *testing.T) {
			n := newNode(t, capable())
			reached := make(chan struct{})
			g := gate{n.card, sync.OnceFunc(func() { close(reached) }), make(chan struct{})}
			n.options.Kernel = g
			stopOld := n.start(n.want(4, "", 0))
			<-reached
			n.options.Kernel = n.card
			stop := n.start(n.want(vfs, "", 0))
			n.waits()
			release := n.claim(aVF, "boot 1")
			close(g.open)
			n.is(provision.Waiting, "shop/cart")
			if got := n.card.Written(); !reflect.DeepEqual(got, []int{4}) {
				t.Errorf("written %v while a pod has a VF", got)
			}
			stopOld()
			release()
			n.is(provision.Done)
			stop()
			n.isUndone()
		})
	}
}

// udev is a kernel in which a function's network device gets another name, and
// another VF's its name, in the moment before it is looked for: at one look,
// and at those that follow.
type udev struct {
	*sriovtest.Card
	pci       string
	at, times int

	mu    sync.Mutex
	looks int
}

func (u *udev) Open(path string) (sriov.Netns, error) {
	n, err := u.Card.Open(path)
	return udevNetns{n, u}, err
}

type udevNetns struct {
	sriov.Netns
	u *udev
}

func (n udevNetns) LinkByName(name string) (sriov.Link, error) {
	n.u.mu.Lock()
	defer n.u.mu.Unlock()
	if l, err := n.Netns.LinkByName(name); err == nil && l.PCI == n.u.pci {
		n.u.looks++
		if n.u.at <= n.u.looks && n.u.looks < n.u.at+n.u.times {
			n.swap(l)
		}
	}
	return n.Netns.LinkByName(name)
}

func (n udevNetns) swap(l sriov.Link) {
	links, _ := n.Links()
	for _, other := range links {
		if other.PCI == otherVF {
			_ = n.Rename(l.Index, fmt.Sprintf("udev%d", n.u.looks)) // each look shows what came of it
			_ = n.Rename(other.Index, l.Name)
		}
	}
}

// New network devices get their names while they are set up: no VF gets what
// is another one's.
func TestNamesChangeHands(t *testing.T) {
	for name, c := range map[string]struct {
		pci     string
		foreign bool
		times   int
	}{
		"VFs that are made":  {pci: aVF, times: 5},
		"VFs that are there": {pci: aVF, foreign: true, times: 1},
		"the PF":             {pci: "0000:01:00.0", foreign: true, times: 1},
	} {
		more := true
		for at := 1; more; at++ {
			t.Run(fmt.Sprintf("%s, look %d", name, at), func(t *testing.T) {
				n := newNode(t, capable())
				if c.foreign {
					n.card.Foreign(2)
				}
				u := &udev{Card: n.card, pci: c.pci, at: at, times: c.times}
				n.options.Kernel = u
				stop := n.start(resource.PF{PCI: n.card.PFPCI(), NumVFs: 2, MTU: 1400})
				n.is(provision.Done)
				links := n.links()
				host, err := n.card.Open("")
				n.must(err)
				held, err := host.VFs(links[n.card.PFPCI()].Index)
				n.must(err)
				for i, pci := range []string{aVF, otherVF} {
					if l := links[pci]; l.MTU != 1400 || l.Up || l.MAC != held[i].MAC {
						t.Errorf("VF %d is %+v, and the PF holds %+v", i, l, held[i].Admin)
					}
				}
				if pf := links[n.card.PFPCI()]; !pf.Up || pf.MTU != 1500 {
					t.Errorf("the PF is %+v", pf)
				}
				n.agent.Configure(nil)
				n.eventually("undone", n.noRecord)
				stop()
				links = n.links()
				for _, pci := range []string{aVF, otherVF} {
					if l, there := links[pci]; there != c.foreign || there && l.MTU != 1500 {
						t.Errorf("after: VF %s is %+v", pci, l)
					}
				}
				// Where its name changes as the node's use of it is looked up, it stays up.
				if pf := links[n.card.PFPCI()]; pf.Up && c.pci == aVF || pf.MTU != 1500 {
					t.Errorf("after: the PF is %+v", pf)
				}
				u.mu.Lock()
				defer u.mu.Unlock()
				more = u.looks >= at
			})
		}
	}
}
