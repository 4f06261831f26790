package routing

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// worldPod is a world's pod in a namespace, with the far ends of its links in
// another one.
type worldPod struct {
	*testing.T
	ns, far *nettest.NS
	pod     *Pod
}

func newWorldPod(t *testing.T) *worldPod {
	t.Helper()
	p := &worldPod{T: t, ns: nettest.Namespace(t, "pod-"), far: nettest.Namespace(t, "far-")}
	for _, ns := range []*nettest.NS{p.ns, p.far} {
		p.write(ns, "ipv6/conf/default/accept_dad", "0")
		p.write(ns, "ipv6/conf/default/router_solicitations", "0")
	}
	pod, err := OpenPod(p.ns.Path())
	p.must(err)
	t.Cleanup(pod.Close)
	p.pod = pod
	return p
}

func (p *worldPod) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *worldPod) write(ns *nettest.NS, key, value string) {
	p.Helper()
	p.must(ns.Do(func() error { return os.WriteFile(filepath.Join(procSysNet, key), []byte(value), 0o644) }))
}

func (p *worldPod) state() *State {
	p.Helper()
	s, err := p.pod.State()
	p.must(err)
	return s
}

// run carries a script out, and waits until its links have come up.
func (p *worldPod) run(script []op) {
	p.Helper()
	for _, o := range script {
		if err := p.do(o); err != nil {
			p.Fatalf("%s: %v", o, err)
		}
	}
}

func (p *worldPod) do(o op) error {
	h := p.pod.handle
	if o.kind == opLink {
		p.addLink(o.dev)
	}
	p.state() // for the indexes
	switch o.kind {
	case opDown, opAddress:
		link, err := h.LinkByName(o.dev)
		if err != nil {
			return err
		}
		if o.kind == opDown {
			return h.LinkSetDown(link)
		}
		return h.AddrAdd(link, &netlink.Addr{IPNet: netOf(o.prefix), Flags: unix.IFA_F_NODAD})
	case opRoute, opUnroute:
		r := o.route.netlink(p.pod.index)
		r.Protocol = netlink.RouteProtocol(o.route.Protocol)
		if o.kind == opUnroute {
			return h.RouteDel(r)
		}
		return [...]func(*netlink.Route) error{h.RouteAddEcmp, h.RouteAppend, h.RouteReplace}[o.mode](r)
	case opRule:
		return h.RuleAdd(o.rule.netlink())
	case opSysctl:
		p.write(p.ns, o.key, o.value)
	}
	return nil
}

// addLink adds a link and waits for its link-local address, which comes by
// itself, and its route.
func (p *worldPod) addLink(name string) {
	p.Helper()
	far, err := netns.GetFromPath(p.far.Path())
	p.must(err)
	defer func() { _ = far.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	h := p.pod.handle
	p.must(h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(far)}))
	farHandle, err := p.far.Handle()
	p.must(err)
	for _, handle := range []*netlink.Handle{farHandle, h} {
		link, lookup := handle.LinkByName(name)
		p.must(lookup)
		p.must(handle.LinkSetUp(link))
	}
	link, err := h.LinkByName(name)
	p.must(err)
	for giveUp := time.Now().Add(30 * time.Second); time.Now().Before(giveUp); time.Sleep(time.Millisecond) {
		addrs, listErr := retried(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V6) })
		p.must(listErr)
		if len(addrs) == 0 {
			continue
		}
		// The kernel gives the address first, and a dump may come between.
		routes, listErr := retried(func() ([]netlink.Route, error) { return h.RouteList(link, netlink.FAMILY_V6) })
		p.must(listErr)
		if len(routes) > 0 {
			return
		}
	}
	p.Fatalf("%s gets no link-local address with a route", name)
}

// leaves returns what the kernel itself says of a packet.
func (p *worldPod) leaves(f flow) string {
	p.Helper()
	options := &netlink.RouteGetOptions{Oif: f.oif}
	if f.src.IsValid() {
		options.SrcAddr = net.IP(f.src.AsSlice())
	}
	routes, err := p.pod.handle.RouteGetWithOptions(f.dst.AsSlice(), options)
	var code unix.Errno
	switch {
	case errors.As(err, &code) && slices.Contains([]unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL}, code):
		return nowhere
	case err != nil:
		p.Fatalf("%+v: %v", f, err)
	case routes[0].Type == unix.RTN_UNREACHABLE || routes[0].LinkIndex == 0:
		return nowhere
	}
	for name, index := range p.pod.index {
		if index == routes[0].LinkIndex && name != "lo" {
			return name
		}
	}
	return nowhere
}

// tidy removes what a network's DEL does: its links, and what sbr and others
// did besides. What the plan did is not removed here.
func (p *worldPod) tidy(w *world) {
	p.Helper()
	h := p.pod.handle
	for _, l := range p.state().Links {
		if w.before.link(l.Name) == nil {
			link, err := h.LinkByName(l.Name)
			p.must(err)
			p.must(h.LinkDel(link))
		}
	}
	made, had := keysOf(w.snapshot().Routes), keysOf(w.before.Routes)
	now := p.state()
	for _, r := range now.Routes {
		if made[r.key()] && !had[r.key()] {
			p.must(p.pod.delRoute(&r))
		}
	}
	for _, o := range w.scripts[1] {
		switch o.kind {
		case opRule:
			p.must(h.RuleDel(o.rule.netlink()))
		case opSysctl:
			if _, err := os.Stat("/"); err == nil && filepath.Base(filepath.Dir(o.key)) == "all" {
				p.write(p.ns, o.key, "0")
			}
		}
	}
}

// addresses that no broadcast has, for which the kernel has rules of its own.
func ordinary(a netip.Addr) bool {
	raw := a.AsSlice()
	return !a.Is4() || raw[3] != 0 && raw[3] != 255
}
