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
	r := j.record
	link, err := j.link()
	if err != nil {
		return err
	}
	have, err := j.Sys.NumVFs(j.pci)
	if err != nil {
		return err
	}
	lower := r.Raised && link.Up && !r.Original.Up || r.MTU != 0 && link.MTU == r.MTU && link.MTU != r.Original.MTU
	remove := have != r.Original.NumVFs && r.ours(have)
	if lower || remove {
		unlock, holdErr := j.holdAll(ctx)
		if holdErr != nil {
			return holdErr
		}
		defer unlock()
	}
	if remove {
		if err = j.takeBack(ctx); err != nil {
			return err
		}
	} else if err = j.restoreVFs(ctx, link.Index, lower); err != nil {
		return err
	}
	if lower {
		if err = j.lower(&link); err != nil {
			return err
		}
	}
	if !r.Original.Autoprobe && j.Sys.Autoprobe(j.pci) {
		if err = j.Writer.SetAutoprobe(j.pci, false); err != nil {
			return err
		}
	}
	return j.end()
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
		if err := j.Writer.Bind(v.PCI, was.Override); err != nil {
			return err
		}
		d, err := j.Sys.Member(j.pf, v.Index)
		if err != nil {
			return err
		}
		v.Device = d
	}
	var link sriov.Link
	err := j.await(ctx, func() string {
		if v.Driver == "" || v.Userspace() {
			return ""
		}
		d, lookErr := j.Sys.Member(j.pf, v.Index)
		if lookErr == nil && d.Netdev != "" {
			v.Device = d
			link, lookErr = j.host.LinkByName(d.Netdev)
		}
		if lookErr == nil && link.Index != 0 {
			return ""
		}
		return fmt.Sprintf("the network device of %s (driver %s)", v.Device, v.Driver)
	})
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

// lower gives the PF its MTU back, and takes it down if the node uses it for
// nothing.
func (j *job) lower(link *sriov.Link) error {
	r := j.record
	if r.MTU != 0 && link.MTU == r.MTU {
		if err := j.host.SetMTU(link.Index, r.Original.MTU); err != nil {
			return network.IO.Errorf("set the MTU of PF %s back to %d: %w", j.pf.Name, r.Original.MTU, err)
		}
	}
	if !r.Raised || r.Original.Up || !link.Up {
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
