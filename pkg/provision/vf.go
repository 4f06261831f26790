package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const zeroMAC = "00:00:00:00:00:00"

// vf is one VF, and what is wrong with it.
type vf struct {
	*sriov.Device
	pf    int // index of the PF's network device
	link  sriov.Link
	admin *sriov.Admin // nil: the driver does not say

	bind, mtu, mac bool
}

func (v *vf) right() bool { return !v.bind && !v.mtu && !v.mac }

// vfs brings the VFs to what is wished, each for itself: one that a pod has
// holds up no other.
func (j *job) vfs(ctx context.Context, pf int) error {
	held, err := j.host.VFs(pf)
	if err != nil {
		j.Log.Debug("PF does not say what it holds for its VFs", "pf", j.pf.Name, "error", err.Error())
	}
	var failed []error
	for i := range j.pf.VFs {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v, lookErr := j.look(pf, i, held)
		if lookErr != nil {
			return lookErr
		}
		delete(j.waiting, v.PCI)
		if err = j.vf(ctx, v); err != nil {
			j.waiting[v.PCI] = waiting{why: "is not set up: " + err.Error(), since: j.withheldSince(v.PCI)}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// looks is how often a VF is looked at whose network device changes its name.
const looks = 3

// look finds out what is wrong with a VF.
func (j *job) look(pf, index int, held []sriov.VF) (*vf, error) {
	v := &vf{pf: pf}
	if at := slices.IndexFunc(held, func(h sriov.VF) bool { return h.Index == index }); at >= 0 {
		v.admin = &held[at].Admin
	}
	for range looks {
		d, err := j.Sys.Member(j.pf, index)
		if err != nil {
			return nil, err
		}
		v.Device = d
		if err = j.judge(v); err != nil || v.Netdev == "" || v.link.Index != 0 {
			return v, err
		}
	}
	return v, nil
}

func (j *job) judge(v *vf) error {
	switch {
	case j.wish.Driver != "":
		v.bind = v.Driver != j.wish.Driver
	default: // the kernel's choice: not one that we tied it to
		v.bind = v.Driver == "" || slices.Contains(j.record.Bound, v.PCI)
	}
	v.link, v.mtu, v.mac = sriov.Link{}, false, false
	if v.Netdev == "" {
		return nil
	}
	link, err := sriov.LinkOf(j.host, v.Netdev, v.PCI)
	if errors.Is(err, sriov.ErrNoLink) {
		return nil // it has just gone, or changes its name
	}
	v.link = link
	v.mtu = j.wish.MTU != 0 && link.MTU != j.wish.MTU
	// Some PFs show an address that they do not hold: those of our VFs are
	// fixed all the same.
	loose := v.admin != nil && (v.admin.MAC == zeroMAC || !j.record.Made.IsZero())
	v.mac = loose && !slices.Contains(j.record.Fixed, v.PCI) && link.MAC != "" && link.MAC != zeroMAC
	return err
}

// vf sets up one VF, or notes why not yet.
func (j *job) vf(ctx context.Context, v *vf) error {
	incomplete := v.link.Index == 0 && !v.Userspace()
	if v.right() && (!incomplete || !j.record.fresh()) {
		return nil
	}
	since := j.withheldSince(v.PCI)
	unlock, err := j.hold(ctx, v.Device, since)
	var held *heldError
	if errors.As(err, &held) {
		j.waiting[v.PCI] = waiting{why: fmt.Sprintf("waits to be changed: %s", held.why), since: since}
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return j.change(ctx, v)
}

// withheldSince is when a VF was first withheld, by itself or with its PF.
func (j *job) withheldSince(vf string) time.Time {
	if w, ok := j.before[vf]; ok {
		return w.since
	}
	return j.since
}

// change sets up a VF that is free.
func (j *job) change(ctx context.Context, v *vf) error {
	if err := j.remember(v); err != nil {
		return err
	}
	if v.Driver == "" && v.admin != nil && v.admin.MAC == zeroMAC {
		// Its address is to be known before it goes to a process.
		if err := j.bindOwn(ctx, v); err != nil && (j.wish.Driver == "" || v.Driver != "") {
			return err
		}
	}
	if err := j.present(ctx, v); err != nil {
		return err
	}
	if v.mac {
		if err := j.fixMAC(ctx, v); err != nil {
			return err
		}
	}
	if err := j.bind(ctx, v); err != nil {
		return err
	}
	if v.mtu {
		if err := j.host.SetMTU(v.link.Index, j.wish.MTU); err != nil {
			return network.IO.Errorf("pfs: mtu %d: %s (%s) refuses it: %w", j.wish.MTU, v.Device, v.Netdev, err)
		}
	}
	return nil
}

// remember notes what a VF was that something else made.
func (j *job) remember(v *vf) error {
	r := j.record
	if _, known := r.Original.VFs[v.PCI]; known || !r.Made.IsZero() {
		return nil
	}
	was := OriginalVF{Driver: v.Driver, Override: j.Sys.Override(v.PCI), MTU: v.link.MTU}
	if v.mac {
		was.MAC = v.admin.MAC
	}
	if r.Original.VFs == nil {
		r.Original.VFs = map[string]OriginalVF{}
	}
	r.Original.VFs[v.PCI] = was
	return j.keep()
}

// present waits until a VF that the kernel drives has its network device.
func (j *job) present(ctx context.Context, v *vf) error {
	if v.Userspace() || v.Driver == "" {
		return nil
	}
	var failed error
	err := j.await(ctx, func() string {
		d, lookErr := j.Sys.Member(j.pf, v.Index)
		if lookErr != nil {
			failed = lookErr
			return ""
		}
		v.Device = d
		if failed = j.judge(v); failed == nil && v.link.Index == 0 {
			return fmt.Sprintf("the network device of %s (driver %s)", d, d.Driver)
		}
		return ""
	})
	return errors.Join(err, failed)
}

// bindOwn gives a VF the kernel's choice of a driver.
func (j *job) bindOwn(ctx context.Context, v *vf) error {
	if !j.Sys.Autoprobe(j.pci) { // the kernel gives a VF none then
		if err := j.Writer.SetAutoprobe(j.pci, true); err != nil {
			return err
		}
	}
	if err := j.toDriver(v, ""); err != nil {
		return err
	}
	if at := slices.Index(j.record.Bound, v.PCI); at >= 0 {
		j.record.Bound = slices.Delete(j.record.Bound, at, at+1)
	}
	return j.again(ctx, v)
}

func (j *job) toDriver(v *vf, driver string) error {
	what := "binding a driver to " + v.String()
	if driver != "" {
		what = "binding driver " + driver + " to " + v.String()
	}
	return j.patiently(what, func() error { return j.Writer.Bind(v.PCI, driver) })
}

// again looks at a VF whose driver is another now.
func (j *job) again(ctx context.Context, v *vf) error {
	d, err := j.Sys.Member(j.pf, v.Index)
	if err != nil {
		return err
	}
	v.Device = d
	if err = j.judge(v); err != nil {
		return err
	}
	return j.present(ctx, v)
}

// bind binds the driver that is wished.
func (j *job) bind(ctx context.Context, v *vf) error {
	if !v.bind {
		return nil
	}
	if j.wish.Driver == "" {
		return j.bindOwn(ctx, v)
	}
	if !slices.Contains(j.record.Bound, v.PCI) {
		j.record.Bound = append(j.record.Bound, v.PCI)
	}
	if err := j.keep(); err != nil {
		return err
	}
	err := j.toDriver(v, j.wish.Driver)
	if errors.Is(err, unix.EINVAL) && j.wish.Driver == "vfio-pci" {
		return fmt.Errorf("%w: vfio-pci needs an IOMMU: switch it on in the firmware and by the kernel's command line (intel_iommu=on)", err)
	}
	if err != nil {
		return err
	}
	return j.again(ctx, v)
}

// macPatience is how long a driver is waited for that is busy, or takes an
// address over late.
const macPatience = 2 * time.Second

// fixMAC makes the address that the VF has the one that its PF holds: it stays
// the same whatever driver is bound, and in pods. A driver that has no such
// setting is left as it is.
func (j *job) fixMAC(ctx context.Context, v *vf) error {
	want := *v.admin
	want.MAC = v.link.MAC
	giveUp := j.Now().Add(macPatience)
	for {
		err := j.host.SetVF(v.pf, v.Index, sriov.KnobMAC, want)
		if errors.Is(err, unix.EOPNOTSUPP) {
			j.Log.Debug("driver cannot fix a VF's address", "driver", j.pf.Driver, "vf", v.String())
		}
		if errors.Is(err, unix.EOPNOTSUPP) || err == nil && j.holds(v, want.MAC) {
			j.record.Fixed = append(j.record.Fixed, v.PCI)
			v.mac = false
			return j.keep()
		}
		busy := err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN)
		if !busy || j.Now().After(giveUp) {
			return network.IO.Errorf("fix the address %s of %s in its PF: %w", want.MAC, v.Device, orUnread(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func orUnread(err error) error {
	if err == nil {
		return errors.New("the driver took it and does not show it")
	}
	return err
}

// holds reports whether the PF shows an address for a VF.
func (j *job) holds(v *vf, mac string) bool {
	all, err := j.host.VFs(v.pf)
	return err == nil && slices.ContainsFunc(all, func(h sriov.VF) bool { return h.Index == v.Index && h.MAC == mac })
}
