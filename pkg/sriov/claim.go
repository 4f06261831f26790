package sriov

import (
	"context"
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// claim records a device as ours, with all that is needed to bring it back.
// The locks of the device and of its PF are held.
func (j *job) claim(ctx context.Context, d *Device, picked bool) (*held, error) {
	link, err := j.appear(ctx, d)
	if err != nil {
		return nil, err
	}
	if link.Index != 0 {
		if err = j.guardNode(d, &link, picked); err != nil {
			return nil, err
		}
	}
	if d.Index >= 0 {
		if err = j.guardPod(d); err != nil {
			return nil, err
		}
	}
	if picked {
		if err = j.claims.guardOffered(d); err != nil {
			return nil, err
		}
	}
	h := &held{Device: d, link: link}
	if link.MaxMTU != 0 && j.conf.MTU > link.MaxMTU {
		return nil, network.Invalid.Errorf("sriov: mtu %d: driver %s takes %d to %d bytes", j.conf.MTU, d.Driver, minMTU, link.MaxMTU)
	}
	if h.record, err = j.snapshot(h, picked); err != nil {
		return nil, err
	}
	if err = j.checkMAC(h); err != nil {
		return nil, err
	}
	return h, j.save(h.record)
}

// appear returns the device's network device, zero for one that a process
// drives. It waits: one that has just left a pod, or whose driver was just
// bound, takes a moment, and may change its name in it.
func (j *job) appear(ctx context.Context, d *Device) (Link, error) {
	for giveUp := j.Now().Add(netdevPatience); ; {
		if d.userspace() {
			return Link{}, nil
		}
		var err error
		if d.Netdev, err = j.Sys.home(d); err != nil {
			return Link{}, err
		}
		if d.Netdev != "" {
			link, lookErr := LinkOf(j.host, d.Netdev, d.PCI)
			if lookErr == nil || !errors.Is(lookErr, ErrNoLink) {
				return link, lookErr
			}
		}
		if d.Driver == "" {
			return Link{}, network.Invalid.Errorf("sriov: %s has no driver: bind one, its own or vfio-pci", d)
		}
		if j.Now().After(giveUp) {
			return Link{}, network.Again.Errorf("sriov: %s has no network device on the node, although driver %s is bound: another program may have moved it to a namespace of its own", d, d.Driver)
		}
		if err = wait(ctx, pause); err != nil {
			return Link{}, err
		}
	}
}

// guardPod refuses a VF whose PF a pod has: that pod could set it up.
func (j *job) guardPod(d *Device) error {
	r, err := j.claims.Get(d.PF.PCI)
	if err != nil || r == nil {
		return err
	}
	return network.Again.Errorf("sriov: %s: its PF %s itself is held by %s", d.PCI, d.PF.PCI, r.Holder())
}

// guardNode refuses to take a device away that the node itself uses, or a PF
// that pods' VFs need. A VF that a device plugin gave, or a definition names,
// goes with its addresses: network managers give any NIC some.
func (j *job) guardNode(d *Device, link *Link, picked bool) error {
	why, err := j.Sys.nodeUse(j.host, d, link, picked)
	if err != nil {
		return err
	}
	if why != "" {
		return network.Invalid.Errorf("sriov: %s %s: it stays on the node; take it out of use there, or choose another", d, why)
	}
	if d.Index >= 0 {
		return nil
	}
	advertised, err := j.claims.Advertised()
	if err != nil {
		return err
	}
	for _, pci := range d.PF.VFs {
		if resource := advertised[pci]; resource != "" {
			return network.Invalid.Errorf("sriov: pfOnly: VF %s of PF %s is advertised as %s: the PF stays on the node", pci, d.PF.Name, resource)
		}
	}
	all, err := j.claims.All()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.PF == d.PCI && r.Index >= 0 {
			return network.Again.Errorf("sriov: pfOnly: VF %d of PF %s is held by %s, and could not be released without the PF", r.Index, d.PF.Name, r.Holder())
		}
	}
	return nil
}

// snapshot describes the device as it is, and what is to become of it.
func (j *job) snapshot(h *held, picked bool) (*Record, error) {
	cookie, err := podns.Cookie(j.call.Netns)
	if err != nil {
		return nil, network.BadNetns.Errorf("CNI_NETNS: %w", err)
	}
	r := &Record{
		Container: j.call.ContainerID, IfName: j.call.IfName, Pod: j.pod(), Network: j.conf.Name,
		Ref: podns.Ref{Path: j.call.Netns, Cookie: cookie, Boot: j.boot},
		PCI: h.PCI, PF: h.PF.PCI, Index: h.Index, Picked: picked, MAC: j.conf.MAC, Since: j.Now().UTC(),
		Original: Original{
			Driver: h.Driver, Netdev: h.Netdev, MAC: h.link.MAC, MTU: h.link.MTU, AltNames: h.link.AltNames, Up: h.link.Up,
		},
	}
	if h.link.Index != 0 {
		r.Original.Flags = &h.link.Flags
	}
	if !j.conf.setsAdmin() {
		return r, nil
	}
	pf, err := j.pf(h.Device)
	if err != nil {
		return nil, err
	}
	now, err := j.admin(pf, h.Device)
	var unsupported *unsupportedError
	if errors.As(err, &unsupported) && j.conf.Unsupported == BestEffort {
		j.log.Warn(err.Error())
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	target := j.conf.over(now)
	r.Original.Admin, r.Applied, r.Set = &now, &target, j.conf.knobs()
	return r, nil
}

// checkMAC refuses an address that another function of the PF has: the card
// would deliver to one of them only.
func (j *job) checkMAC(h *held) error {
	if j.conf.MAC == "" {
		return nil
	}
	if err := j.checkClaimedMAC(h); err != nil {
		return err
	}
	link, err := j.host.LinkByName(h.PF.Name)
	if err != nil {
		return err
	}
	if link.MAC == j.conf.MAC {
		return network.Invalid.Errorf("sriov: mac %s: is PF %s's own", j.conf.MAC, h.PF.Name)
	}
	vfs, err := j.host.VFs(link.Index)
	if err != nil {
		return err
	}
	for _, vf := range vfs {
		if vf.Index != h.Index && vf.MAC == j.conf.MAC {
			return network.Invalid.Errorf("sriov: mac %s: VF %d of PF %s has it already; give each its own", j.conf.MAC, vf.Index, h.PF.Name)
		}
	}
	return nil
}

// checkClaimedMAC refuses an address that another VF has by its claim, or gets
// back when that ends.
func (j *job) checkClaimedMAC(h *held) error {
	all, err := j.claims.All()
	if err != nil { // of other VFs: the PF itself is asked besides
		j.log.Warn("not every claim can be read", "error", err.Error())
	}
	for _, r := range all {
		if r.PF != h.PF.PCI || r.PCI == h.PCI {
			continue
		}
		if r.MAC == j.conf.MAC {
			reason := network.Invalid
			if r.Live(j.boot) == "" { // that pod has ended, and its release is on its way
				reason = network.Again
			}
			return reason.Errorf("sriov: mac %s: VF %d of PF %s has it already, held by %s; give each pod its own", j.conf.MAC, r.Index, h.PF.Name, r.Holder())
		}
		if r.Boot == j.boot && r.Original.Admin != nil && r.Original.Admin.MAC == j.conf.MAC {
			return network.Invalid.Errorf("sriov: mac %s: VF %d of PF %s gets it back when %s ends; give each pod its own", j.conf.MAC, r.Index, h.PF.Name, r.Holder())
		}
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
