package provision

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// apply brings the PF to what is wished. What is right is not touched.
func (j *job) apply(ctx context.Context) error {
	link, err := j.link()
	if err == nil {
		err = j.possible(&link)
	}
	if err != nil {
		return err
	}
	have, err := j.Sys.NumVFs(j.pci)
	if err == nil {
		err = j.own(&link, have)
	}
	if err == nil {
		err = j.tellNM(ctx)
	}
	if err == nil && have != j.wish.NumVFs {
		err = j.number(ctx, link, have)
	}
	if err == nil {
		err = j.arrived(ctx)
	}
	if err == nil {
		err = j.lift(ctx)
	}
	if err != nil {
		return err
	}
	j.whole = true
	err = j.vfs(ctx, link.Index)
	if ctx.Err() != nil {
		return ctx.Err() // not every VF was looked at
	}
	return errors.Join(err, j.complete())
}

// possible refuses what cannot be, before anything is changed.
func (j *job) possible(link *sriov.Link) error {
	w := j.wish
	if w.NumVFs < 0 || w.NumVFs > j.pf.Total {
		return network.Invalid.Errorf("pfs: numVfs %d: PF %s (%s) can have 0 to %d VFs (its sriov_totalvfs)", w.NumVFs, j.pf.Name, j.pci, j.pf.Total)
	}
	if link.MaxMTU != 0 && w.MTU > link.MaxMTU {
		return network.Invalid.Errorf("pfs: mtu %d: PF %s (%s) takes %d at most", w.MTU, j.pf.Name, j.pci, link.MaxMTU)
	}
	if w.Driver == "" {
		return nil
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`).MatchString(w.Driver) {
		return network.Invalid.Errorf("pfs: driver %q: want a driver's name such as vfio-pci", w.Driver)
	}
	if !j.Sys.HasDriver(w.Driver) {
		return network.Invalid.Errorf("pfs: driver %q of PF %s: the kernel has not loaded it: modprobe %s on the node", w.Driver, j.pf.Name, w.Driver)
	}
	return nil
}

// own makes the PF ours on disk, or finds that it is.
func (j *job) own(link *sriov.Link, have int) error {
	r := j.record
	if r == nil || r.Boot != j.boot { // VFs, MTU and the rest have ended with that boot
		r = &Record{PCI: j.pci, Boot: j.boot, Original: Original{
			NumVFs: have, MTU: link.MTU, Up: link.Up, Autoprobe: j.Sys.Autoprobe(j.pci),
		}}
	}
	ours := r.ours(have)
	if have != 0 && have != j.wish.NumVFs && !ours {
		j.whole = false
		return network.Invalid.Errorf("pfs: PF %s (%s) has %d VFs that something else made: set numVfs to %d, or write 0 to its sriov_numvfs when nothing uses them", j.pf.Name, j.pci, have, have)
	}
	if have != 0 && !ours { // as many as are wished
		r.Made, r.Offered = time.Time{}, true
	}
	if wish := wishOf(j.wish); r.Phase != done || r.Wish != wish {
		r.Phase, r.Wish = setting, wish
	}
	r.Name, r.VFs, j.record = j.pf.Name, have, r
	return j.keep()
}

// number gives the PF another number of VFs.
func (j *job) number(ctx context.Context, link sriov.Link, have int) error {
	j.whole = false
	unlock, err := j.holdAll(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := j.record
	r.Phase, r.Made, r.Offered, r.Bound, r.Fixed = making, j.Now(), false, nil, nil
	if err = j.keep(); err != nil {
		return err
	}
	if have != 0 {
		if err = j.write(ctx, 0); err != nil {
			return err
		}
	}
	if j.wish.NumVFs == 0 {
		return nil
	}
	if err = j.prepare(link); err != nil {
		return err
	}
	return j.write(ctx, j.wish.NumVFs)
}

// write writes the number of VFs. It does not end before the kernel is done.
func (j *job) write(ctx context.Context, n int) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := j.patiently(fmt.Sprintf("writing %d to sriov_numvfs", n), func() error { return j.Writer.SetVFs(j.pci, n) }); err != nil {
		return err
	}
	pf, err := j.Sys.PF(j.pci)
	if err != nil {
		return err
	}
	j.pf, j.record.VFs = pf, n
	if err = j.keep(); err == nil {
		err = ctx.Err() // it may have taken long
	}
	return err
}

// arrived waits for the VFs of a number that was written.
func (j *job) arrived(ctx context.Context) error {
	n := j.wish.NumVFs
	if j.Sys.Complete(j.pci, n) != "" {
		j.whole = false
		if err := j.await(ctx, func() string { return j.Sys.Complete(j.pci, n) }); err != nil {
			return err
		}
	}
	pf, err := j.Sys.PF(j.pci)
	if err != nil {
		return err
	}
	if j.pf = pf; j.record.Phase == making {
		j.record.Phase = setting
	}
	return j.keep()
}

// lift prepares the PF where its VFs are there already: not while a pod has
// one, since some drivers reset the card at that.
func (j *job) lift(ctx context.Context) error {
	link, err := j.link()
	if err != nil || j.wish.NumVFs == 0 || link.Up && j.wish.MTU <= link.MTU {
		return err
	}
	j.whole = false
	unlock, err := j.holdAll(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return j.prepare(link)
}

// prepare takes the PF up, and gives it the MTU that the VFs need.
func (j *job) prepare(link sriov.Link) error {
	r, raise := j.record, j.wish.MTU > link.MTU
	r.Raised = r.Raised || !link.Up
	if raise {
		r.MTU = j.wish.MTU
	}
	if err := j.keep(); err != nil {
		return err
	}
	if !link.Up {
		if err := j.host.SetUp(link.Index, true); err != nil {
			return network.IO.Errorf("take PF %s up: %w", j.pf.Name, err)
		}
	}
	if raise {
		if err := j.host.SetMTU(link.Index, j.wish.MTU); err != nil {
			return network.IO.Errorf("pfs: mtu %d: PF %s refuses it: %w", j.wish.MTU, j.pf.Name, err)
		}
	}
	if !j.Sys.Autoprobe(j.pci) {
		return j.Writer.SetAutoprobe(j.pci, true)
	}
	return nil
}

// complete notes how far it came.
func (j *job) complete() error {
	j.record.Offered = true
	if j.record.Phase = done; len(j.waiting) > 0 {
		j.record.Phase = setting
	}
	return j.keep()
}
