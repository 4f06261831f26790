package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// undo brings the PF back to what it was before us. What something else has
// changed since stays.
func (j *job) undo(ctx context.Context) error {
	link, err := j.link()
	if err != nil {
		return err
	}
	remove, err := j.removable()
	if err != nil {
		return err
	}
	r, lower := j.record, j.raised(&link)
	if lower || remove {
		unlock, holdErr := j.holdAll(ctx)
		if holdErr != nil {
			return holdErr
		}
		defer unlock()
	}
	if remove {
		err = j.takeBack(ctx)
	} else {
		err = j.restoreVFs(ctx, link.Index, lower)
	}
	if err == nil && lower {
		err = j.lower(&link)
	}
	if err == nil && !r.Original.Autoprobe && j.Sys.Autoprobe(j.pci) {
		err = j.Writer.SetAutoprobe(j.pci, false)
	}
	if err != nil {
		return err
	}
	return j.end()
}

// removable reports whether the number of VFs is to be what it was.
func (j *job) removable() (bool, error) {
	have, err := j.Sys.NumVFs(j.pci)
	r := j.record
	if err != nil || have == r.Original.NumVFs {
		return false, err
	}
	if !r.ours(have) {
		j.Log.Warn("PF keeps its VFs: something else made them since", "pf", j.pf.Name, "vfs", have, "before", r.Original.NumVFs)
		return false, nil
	}
	return true, nil
}

// raised reports whether the PF is still as we made it: up, or of our MTU.
func (j *job) raised(link *sriov.Link) bool {
	return j.raisedUp(link) || j.raisedMTU(link)
}

func (j *job) raisedUp(link *sriov.Link) bool {
	return j.record.Raised && !j.record.Original.Up && link.Up
}

func (j *job) raisedMTU(link *sriov.Link) bool {
	return j.record.MTU != 0 && link.MTU == j.record.MTU && link.MTU != j.record.Original.MTU
}

// takeBack brings the number of VFs back.
func (j *job) takeBack(ctx context.Context) error {
	if err := j.write(ctx, 0); err != nil || j.record.Original.NumVFs == 0 {
		return err
	}
	return j.write(ctx, j.record.Original.NumVFs)
}

// restoreVFs brings those VFs back that were there before us. locked: their
// locks are held.
func (j *job) restoreVFs(ctx context.Context, pf int, locked bool) error {
	originals := j.record.Original.VFs
	for _, pci := range slices.Sorted(maps.Keys(originals)) {
		index := slices.Index(j.pf.VFs, pci)
		if index < 0 || !j.record.Made.IsZero() {
			continue // it has gone, and what has its address is another one
		}
		d, err := j.Sys.Member(j.pf, index)
		if err != nil {
			return err
		}
		if !locked {
			unlock, holdErr := j.hold(ctx, d, j.since)
			if holdErr != nil {
				return holdErr
			}
			defer unlock()
		}
		if err = j.restoreVF(ctx, &vf{Device: d, pf: pf}, originals[pci]); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) restoreVF(ctx context.Context, v *vf, was OriginalVF) error {
	if v.Driver != was.Driver && slices.Contains(j.record.Bound, v.PCI) && was.Driver != "" {
		if err := j.toDriver(v, was.Override); err != nil {
			return err
		}
	}
	link, err := j.appear(ctx, v)
	if err != nil {
		return err
	}
	if link.Index != 0 && was.MTU != 0 && link.MTU != was.MTU {
		if err = j.host.SetMTU(link.Index, was.MTU); err != nil {
			return network.IO.Errorf("set the MTU of %s back to %d: %w", v.Device, was.MTU, err)
		}
	}
	if was.MAC == "" {
		return nil
	}
	if err = j.host.SetVF(v.pf, v.Index, sriov.KnobMAC, sriov.Admin{MAC: was.MAC}); err != nil {
		// Some drivers take no address back; the VF has the same one then.
		j.Log.Warn("the address of a VF stays fixed in its PF", "vf", v.String(), "error", err.Error())
	}
	return nil
}

// appear waits for a VF's network device, if its driver makes one.
func (j *job) appear(ctx context.Context, v *vf) (link sriov.Link, err error) {
	err = j.await(ctx, func() string {
		d, lookErr := j.Sys.Member(j.pf, v.Index)
		if lookErr == nil {
			v.Device = d
			if d.Driver == "" || d.Userspace() {
				return ""
			}
			link, lookErr = sriov.LinkOf(j.host, d.Netdev, d.PCI)
		}
		if lookErr == nil {
			return ""
		}
		return fmt.Sprintf("the network device of %s (driver %s)", v.Device, v.Driver)
	})
	return link, err
}

// lower gives the PF its MTU back, and takes it down if the node uses it for
// nothing.
func (j *job) lower(link *sriov.Link) error {
	if j.raisedMTU(link) {
		was := j.record.Original.MTU
		if err := j.host.SetMTU(link.Index, was); err != nil {
			return network.IO.Errorf("set the MTU of PF %s back to %d: %w", j.pf.Name, was, err)
		}
	}
	if !j.raisedUp(link) {
		return nil
	}
	why, err := j.Sys.NodeUse(j.host, &sriov.Device{PCI: j.pci, PF: *j.pf, Index: -1, Driver: j.pf.Driver, Netdev: j.pf.Name})
	if err != nil || why != "" {
		return err
	}
	if err = j.host.SetUp(link.Index, false); err != nil {
		return network.IO.Errorf("take PF %s down again: %w", j.pf.Name, err)
	}
	return nil
}

// end makes the PF nobody's business again.
func (j *job) end() error { return errors.Join(j.untellNM(), j.forget(j.pci)) }
