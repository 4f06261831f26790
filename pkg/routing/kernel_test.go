package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// realPod is a random pod in a real namespace.
type realPod struct {
	*testing.T
	ns     *nettest.NS
	handle *netlink.Handle
}

func (p *realPod) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// install gives the namespace what one state has and another lacks.
func (p *realPod) install(want, have *State) {
	p.Helper()
	for _, l := range want.Links[len(have.Links):] {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = l.Name
		p.must(p.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: l.Name + "-far"}))
		for _, name := range []string{l.Name, l.Name + "-far"} {
			link, err := p.handle.LinkByName(name)
			p.must(err)
			if l.Up {
				p.must(p.handle.LinkSetUp(link))
			}
		}
	}
	for _, a := range want.Addresses[len(have.Addresses):] {
		link, err := p.handle.LinkByName(a.Dev)
		p.must(err)
		p.must(p.handle.AddrAdd(link, &netlink.Addr{IPNet: netOf(a.Prefix), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}))
	}
	pod, err := OpenPod(p.ns.Path())
	p.must(err)
	defer pod.Close()
	_, err = pod.State()
	p.must(err)
	for _, r := range want.Routes[len(have.Routes):] {
		p.must(pod.addRoute(&r))
	}
}

func (p *realPod) state() *State {
	p.Helper()
	pod, err := OpenPod(p.ns.Path())
	p.must(err)
	defer pod.Close()
	s, err := pod.State()
	p.must(err)
	return s
}

// The kernel takes the plans of random pods as they are, routes as the model
// of the other test does, and has nothing left after Undo.
func TestPlansInTheKernel(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			in := arrange(seed)
			p := &realPod{T: t, ns: nettest.Namespace(t, "pod-")}
			var err error
			p.handle, err = p.ns.Handle()
			p.must(err)
			p.install(in.Before, &State{})
			before := p.state()
			guard, err := Begin(p.ns.Path(), func(*Plan) error { return nil })
			p.must(err)
			defer guard.Close()
			p.install(in.After, in.Before)
			plan, err := guard.Finish(Input{Networks: in.Networks, Ranges: in.Ranges})
			if errors.Is(err, network.Invalid) {
				return
			}
			p.must(err)
			p.isSteady(plan)
			p.agrees(plan)
			p.must(Undo(p.ns.Path(), plan))
			p.undone(before, plan)
		})
	}
}

// isSteady: read back it is the plan, and applied again it changes nothing.
func (p *realPod) isSteady(plan *Plan) {
	p.Helper()
	pod, err := OpenPod(p.ns.Path())
	p.must(err)
	defer pod.Close()
	p.must(pod.Compare(plan))
	once, err := pod.State()
	p.must(err)
	p.must(pod.apply(plan, once))
	if diff := cmp.Diff(once, p.state(), equalValues()); diff != "" {
		p.Errorf("applied twice is not applied once:\n%s", diff)
	}
}

// agrees asks the kernel for its way to everywhere, from every address.
func (p *realPod) agrees(plan *Plan) {
	p.Helper()
	now := p.state()
	m := &model{*now}
	for _, a := range now.Addresses {
		if plan.nic(a.Dev) == nil {
			continue
		}
		for _, dst := range destinations() {
			if dst.Is6() != a.Prefix.Addr().Is6() {
				continue
			}
			want, got := m.out(a.Prefix.Addr(), dst, ""), p.way(a.Prefix.Addr(), dst)
			if got != want || plan.secondaries() && got != "" && got != a.Dev {
				p.Errorf("from %s of %s to %s: the kernel says %q, the model %q", a.Prefix.Addr(), a.Dev, dst, got, want)
			}
		}
	}
}

// way is the NIC by which the kernel would send, or "".
func (p *realPod) way(src, dst netip.Addr) string {
	routes, err := p.handle.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{SrcAddr: src.AsSlice()})
	if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return ""
	}
	link, err := p.handle.LinkByIndex(routes[0].LinkIndex)
	p.must(err)
	return link.Attrs().Name
}

// undone: no rule, no table, and the cluster network's routes as they were.
func (p *realPod) undone(before *State, plan *Plan) {
	p.Helper()
	after := p.state()
	for _, r := range after.Rules {
		if r.ours() {
			p.Errorf("rule %q is left", r)
		}
	}
	have := keysOf(after.Routes)
	for _, r := range after.Routes {
		if ourTable(r.Table) {
			p.Errorf("route %q is left", &r)
		}
	}
	for _, r := range before.main(unicast) {
		if plan.nic(r.Dev) != nil && !have[r.key()] {
			p.Errorf("the cluster network's %q is gone", &r)
		}
	}
}
