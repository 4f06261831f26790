package sriovtest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const defaultMTU = 1500

func (s *space) inUse(name string, but *link) bool {
	return slices.ContainsFunc(s.links, func(l *link) bool {
		return l != but && l.Name == name || slices.Contains(l.AltNames, name)
	})
}

func (s *space) byIndex(index int) (*link, error) {
	for _, l := range s.links {
		if l.Index == index {
			return l, nil
		}
	}
	return nil, unix.ENODEV
}

// newLink makes a network device, of a function or of none.
func (m *Model) newLink(path, name string, f *function) *link {
	m.last++
	l := &link{Link: sriov.Link{Index: m.last, Name: name, MTU: defaultMTU}, function: f}
	if f != nil {
		l.PCI, l.MaxMTU = f.pci, m.MaxMTU
		l.MAC = f.admin.MAC
		if l.MAC == "" || l.MAC == zeroMAC {
			l.MAC = m.newMAC()
		}
		l.permanent = l.MAC
		f.link = l
		m.sys.enter(l.Link, "")
	}
	s := m.spaces[path]
	s.links = append(s.links, l)
	return l
}

func (m *Model) newMAC() string {
	m.made++
	return fmt.Sprintf("02:aa:00:00:%02x:%02x", m.made>>8, m.made&0xff)
}

// change does something to a device of this namespace.
func (n *netns) change(index int, do func(*link) error) error {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	l, err := n.space.byIndex(index)
	if err != nil {
		return err
	}
	return do(l)
}

func (n *netns) onNode() bool { return n.space.path == "" }

// busy reports a VF that is being reset.
func (l *link) busy() bool { return l.function != nil && time.Now().Before(l.function.until) }

// Links implements sriov.Netns.
func (n *netns) Links() ([]sriov.Link, error) {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	var out []sriov.Link
	for _, l := range n.space.links {
		out = append(out, n.model.view(l))
	}
	return out, nil
}

// LinkByName implements sriov.Netns. As with the kernel, an alternative name
// does.
func (n *netns) LinkByName(name string) (sriov.Link, error) {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	for _, l := range n.space.links {
		if l.Name == name || slices.Contains(l.AltNames, name) {
			return n.model.view(l), nil
		}
	}
	return sriov.Link{}, fmt.Errorf("%s: %w", name, sriov.ErrNoLink)
}

// view is what a reader gets: a copy.
func (m *Model) view(l *link) sriov.Link {
	out := l.Link
	out.AltNames = slices.Clone(l.AltNames)
	out.Carrier = l.Up
	if f := l.function; f != nil && f.index >= 0 {
		pf := m.pf.link
		out.Carrier = l.Up && (pf != nil && pf.Up && f.admin.LinkState != "disable" || f.admin.LinkState == "enable")
	}
	return out
}

// Move implements sriov.Netns in the kernel's order (do_setlink): the device
// moves, and takes the new name along only if its own is taken there; then the
// MTU, then the name. What fails late leaves what went before.
func (n *netns) Move(index int, to sriov.Netns, name string, mtu int) error {
	target, ok := to.(*netns)
	if !ok {
		return errors.New("the target is of another kernel")
	}
	m := n.model
	return n.change(index, func(l *link) error {
		if m.Switchdev && l.function == m.pf {
			return unix.EINVAL // stays where its eswitch is
		}
		if target.space.inUse(l.Name, l) {
			if target.space.inUse(name, l) {
				return unix.EEXIST
			}
			n.named(l, name)
		}
		for _, alt := range l.AltNames {
			if target.space != n.space && target.space.inUse(alt, l) {
				return unix.EEXIST
			}
		}
		m.transfer(l, n.space, target.space)
		if mtu != 0 {
			if err := m.setMTU(l, mtu); err != nil {
				return err
			}
		}
		return target.rename(l, name)
	})
}

// transfer moves a device, which goes down and loses its addresses.
func (m *Model) transfer(l *link, from, to *space) {
	m.down(l)
	l.addresses, l.moved = nil, true
	if from.path == "" {
		m.sys.leave(l.Link)
	}
	from.links = slices.DeleteFunc(from.links, func(other *link) bool { return other == l })
	to.links = append(to.links, l)
	if to.path == "" {
		m.sys.enter(l.Link, l.port)
	}
}

// Rename implements sriov.Netns.
func (n *netns) Rename(index int, name string) error {
	return n.change(index, func(l *link) error { return n.rename(l, name) })
}

func (n *netns) rename(l *link, name string) error {
	switch {
	case l.Name == name:
		return nil
	case l.Up && n.model.KeepsUpNames:
		return unix.EBUSY
	case n.space.inUse(name, nil):
		return unix.EEXIST
	}
	n.named(l, name)
	return nil
}

func (n *netns) named(l *link, name string) {
	if n.onNode() && l.function != nil {
		n.model.sys.leave(l.Link)
		defer func() { n.model.sys.enter(l.Link, l.port) }()
	}
	l.Name = name
}

// SetMTU implements sriov.Netns.
func (n *netns) SetMTU(index, mtu int) error {
	return n.change(index, func(l *link) error { return n.model.setMTU(l, mtu) })
}

func (m *Model) setMTU(l *link, mtu int) error {
	const least = 68
	if mtu < least || l.MaxMTU != 0 && mtu > l.MaxMTU || m.TakesMTU != 0 && mtu > m.TakesMTU {
		return unix.EINVAL
	}
	l.MTU = mtu
	return nil
}

// SetUp implements sriov.Netns.
func (n *netns) SetFlags(index int, flags uint32) error {
	return n.change(index, func(l *link) error {
		l.Flags = flags
		return nil
	})
}

func (n *netns) SetUp(index int, up bool) error {
	return n.change(index, func(l *link) error {
		switch {
		case l.Up == up:
			return nil
		case l.busy():
			return unix.EBUSY
		case up:
			if l.Up = true; n.model.ForgetsAtUp && l.moved {
				n.model.address(l, l.permanent)
			}
			l.moved = false
		default:
			n.model.down(l)
		}
		return nil
	})
}

// down takes a device down, at which some drivers reset the VF: it hears the
// PF's address, and asks for its own again, which a trusted one gets.
func (m *Model) down(l *link) {
	f := l.function
	reset := l.Up && f != nil && f.index >= 0 && m.MAC == AtReset && f.admin.MAC != zeroMAC
	if l.Up = false; !reset {
		return
	}
	l.permanent = f.admin.MAC
	if f.admin.Trust == "on" {
		f.admin.MAC, f.shown.MAC = l.MAC, l.MAC
		return
	}
	m.address(l, f.admin.MAC)
}

// address gives a device an address, wherever it is.
func (m *Model) address(l *link, mac string) {
	l.MAC = mac
	if slices.Contains(m.spaces[""].links, l) {
		m.sys.address(l.Link)
	}
}

// AddAltName implements sriov.Netns.
func (n *netns) AddAltName(index int, name string) error {
	return n.change(index, func(l *link) error {
		if n.space.inUse(name, nil) {
			return unix.EEXIST
		}
		l.AltNames = append(l.AltNames, name)
		return nil
	})
}

// DelAltName implements sriov.Netns.
func (n *netns) DelAltName(index int, name string) error {
	return n.change(index, func(l *link) error {
		at := slices.Index(l.AltNames, name)
		if at < 0 {
			return unix.EINVAL
		}
		l.AltNames = slices.Delete(l.AltNames, at, at+1)
		return nil
	})
}

// Addresses implements sriov.Netns.
func (n *netns) Addresses(index int) (out []netip.Prefix, err error) {
	err = n.change(index, func(l *link) error {
		out = slices.Clone(l.addresses)
		return nil
	})
	return out, err
}

// AddAddress implements sriov.Netns.
func (n *netns) AddAddress(index int, address netip.Prefix, _ bool) error {
	return n.change(index, func(l *link) error {
		if slices.Contains(l.addresses, address) {
			return unix.EEXIST
		}
		l.addresses = append(l.addresses, address)
		return nil
	})
}

// AddRoute implements sriov.Netns: by a device that is up only.
func (n *netns) AddRoute(index int, _ sriov.Route) error {
	return n.change(index, func(l *link) error {
		if !l.Up {
			return unix.ENETDOWN
		}
		return nil
	})
}

// Prepare implements sriov.Netns.
func (n *netns) Prepare(name string) error {
	_, err := n.LinkByName(name)
	return err
}

// AllowIPv6 implements sriov.Netns.
func (n *netns) AllowIPv6(name string) error {
	_, err := n.LinkByName(name)
	return err
}

// Announce implements sriov.Netns: by a device that is up only.
func (n *netns) Announce(index int, _ string, _ []netip.Addr) error {
	return n.AddRoute(index, sriov.Route{})
}
