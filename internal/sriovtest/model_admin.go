package sriovtest

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// SetMAC implements sriov.Netns: the device's own change of its address. What
// the PF has fixed an untrusted VF may not change with most drivers.
func (n *netns) SetMAC(index int, mac string) error {
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	m := n.model
	return n.change(index, func(l *link) error {
		f := l.function
		switch {
		case hardware[0]&1 != 0:
			return unix.EADDRNOTAVAIL
		case l.busy():
			return unix.EAGAIN
		case f != nil && f.index >= 0 && f.fixed && f.admin.Trust != "on" && m.MACRefusal != 0 && mac != l.permanent:
			return m.MACRefusal
		}
		m.address(l, mac)
		if f != nil && f.index >= 0 && m.ShowsOwn && (!f.fixed || f.admin.Trust == "on") {
			f.admin.MAC, f.shown.MAC = mac, mac
		}
		return nil
	})
}

// held returns the PF that a device of this namespace is.
func (n *netns) held(pf int) (*link, error) {
	l, err := n.space.byIndex(pf)
	if err == nil && l.function != n.model.pf {
		return nil, unix.EOPNOTSUPP
	}
	return l, err
}

// VFs implements sriov.Netns.
func (n *netns) VFs(pf int) ([]sriov.VF, error) {
	m := n.model
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := n.held(pf); err != nil {
		return nil, err
	}
	if m.Overfull {
		return nil, unix.EMSGSIZE
	}
	if m.Silent {
		return nil, nil
	}
	var out []sriov.VF
	for _, f := range m.vfs {
		out = append(out, sriov.VF{Index: f.index, Admin: f.shown})
	}
	return out, nil
}

// Counters implements sriov.Netns.
func (n *netns) Counters(pf int) ([]sriov.VF, error) {
	vfs, err := n.VFs(pf)
	if most := n.model.Counted; err == nil && most > 0 && len(vfs) > most {
		if n.model.TooBig {
			return nil, unix.EMSGSIZE
		}
		vfs = vfs[:most]
	}
	return vfs, err
}

// SetVF implements sriov.Netns.
func (n *netns) SetVF(pf, vf int, k sriov.Knob, a sriov.Admin) error {
	m := n.model
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := n.held(pf)
	if err != nil {
		return err
	}
	switch {
	case !m.knows(k):
		return unix.EOPNOTSUPP
	case vf < 0 || vf >= len(m.vfs):
		return unix.EINVAL
	}
	f := m.vfs[vf]
	if time.Now().Before(f.until) {
		return unix.EAGAIN
	}
	if m.TagsWhileDown && k == sriov.KnobVLAN && f.link != nil && f.link.Up {
		return unix.EBUSY
	}
	if err = m.refuse(l, k, a); err != nil {
		return err
	}
	m.hold(f, k, a)
	f.until = time.Now().Add(m.Busy)
	m.after(m.Slow, func() { take(&f.shown, k, f.admin) })
	return nil
}

// refuse is what the driver says to a value.
func (m *Model) refuse(pf *link, k sriov.Knob, a sriov.Admin) error {
	switch k {
	case sriov.KnobMAC:
		if mac, err := net.ParseMAC(a.MAC); err != nil || mac[0]&1 != 0 {
			return unix.EINVAL
		}
	case sriov.KnobVLAN:
		if a.VLAN > 4095 || a.QoS > 7 {
			return unix.EINVAL
		}
		if a.Proto == "802.1ad" && !m.QinQ {
			return unix.EPROTONOSUPPORT
		}
	case sriov.KnobRate:
		if !pf.Up || a.MaxTxRate > m.MaxRate || a.MinTxRate != 0 && !m.MinRate {
			return unix.EINVAL
		}
	}
	return nil
}

// hold takes over what was set.
func (m *Model) hold(f *function, k sriov.Knob, a sriov.Admin) {
	take(&f.admin, k, a)
	if k == sriov.KnobMAC {
		f.fixed = a.MAC != zeroMAC
		m.arrive(f)
	}
}

// take takes one knob of another state over.
func take(to *sriov.Admin, k sriov.Knob, a sriov.Admin) {
	switch k {
	case sriov.KnobMAC:
		to.MAC = a.MAC
	case sriov.KnobVLAN:
		to.VLAN, to.QoS, to.Proto = a.VLAN, a.QoS, a.Proto
	case sriov.KnobRate:
		to.MinTxRate, to.MaxTxRate = a.MinTxRate, a.MaxTxRate
	case sriov.KnobSpoofChk:
		to.SpoofChk = a.SpoofChk
	case sriov.KnobTrust:
		to.Trust = a.Trust
	case sriov.KnobLinkState:
		to.LinkState = a.LinkState
	}
}

// arrive brings the address that the PF has set to the VF, in the driver's way.
func (m *Model) arrive(f *function) {
	if m.MAC == AtReset || m.MAC == Never || !f.fixed {
		return
	}
	var wait time.Duration
	if m.MAC == Late {
		wait = m.Slow
	}
	mac := f.admin.MAC
	m.after(wait, func() {
		if f.link != nil && f.admin.MAC == mac {
			m.address(f.link, mac)
			f.link.permanent = mac
		}
	})
}
