package sriov

import (
	"context"
	"errors"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// How long an ADD waits for a VF that is on its way: for the DEL of the pod
// that had it, and for its network device to come back.
const (
	holderPatience = 5 * time.Second
	netdevPatience = 5 * time.Second
	pause          = 20 * time.Millisecond
)

// held is a device that is this attachment's: locked and recorded.
type held struct {
	*Device
	record *Record
	link   Link // its network device; zero where a process drives it
	unlock func()
}

// occupy finds the device that the configuration asks for and makes it ours.
func (j *job) occupy(ctx context.Context) (*held, error) {
	if j.conf.DeviceID != "" {
		d, err := j.Sys.VF(j.conf.DeviceID)
		if err != nil {
			return nil, err
		}
		if j.conf.Master != "" && j.conf.Master != d.PF.Name {
			j.log.Warn("master has no effect: deviceID is a VF of another PF", "master", j.conf.Master, "device", d.String())
		}
		return j.await(ctx, d, false)
	}
	pf, err := j.Sys.PFByName(j.conf.Master)
	if err != nil {
		return nil, err
	}
	if j.conf.PFOnly {
		return j.await(ctx, j.Sys.whole(pf), true)
	}
	if j.conf.VF == nil {
		return j.pick(ctx, pf)
	}
	if len(pf.VFs) == 0 {
		return nil, j.noVFs(pf)
	}
	if *j.conf.VF >= len(pf.VFs) {
		return nil, network.Invalid.Errorf("sriov: vf %d: PF %s has %d VFs: want 0 to %d", *j.conf.VF, pf.Name, len(pf.VFs), len(pf.VFs)-1)
	}
	d, err := j.Sys.vfOf(pf, *j.conf.VF)
	if err != nil {
		return nil, err
	}
	advertised, err := j.claims.Advertised()
	if err != nil {
		return nil, err
	}
	if resource := advertised[d.PCI]; resource != "" {
		return nil, network.Invalid.Errorf("sriov: vf %d: %s is advertised as %s: ask for that resource in the pod, or choose another VF", *j.conf.VF, d, resource)
	}
	return j.await(ctx, d, true)
}

func (j *job) noVFs(pf *PF) error {
	return network.Invalid.Errorf("sriov: master %q: PF %s has no VFs: write their number, %d at most, to %s/sriov_numvfs", pf.Name, pf.PCI, pf.Total, j.Sys.dir(pf.PCI))
}

// await takes one device, and waits for the DEL of the pod that has it: when a
// pod starts again, its old sandbox's DEL is often still on its way.
func (j *job) await(ctx context.Context, d *Device, picked bool) (*held, error) {
	for giveUp := j.Now().Add(holderPatience); ; {
		unlock, err := j.claims.lock(ctx, d.PCI)
		if err != nil {
			return nil, err
		}
		holder, err := j.vacate(ctx, d)
		if err == nil && holder == "" {
			return j.secure(ctx, d, picked, unlock)
		}
		unlock() // its DEL needs it
		if err == nil && j.Now().After(giveUp) {
			err = network.Again.Errorf("sriov: %s is held by %s: delete that pod, or give this one another VF", d, holder)
		}
		if err == nil {
			err = wait(ctx, pause)
		}
		if err != nil {
			return nil, err
		}
	}
}

// secure claims a device that is free and locked. It has the PF's lock
// meanwhile, so that no other call chooses the same MAC address.
func (j *job) secure(ctx context.Context, d *Device, picked bool, unlock func()) (*held, error) {
	unlockPF, err := j.lockPF(ctx, d)
	if err == nil {
		var h *held
		if err = j.again(d); err == nil {
			h, err = j.claim(ctx, d, picked)
		}
		unlockPF()
		if err == nil {
			h.unlock = unlock
			return h, nil
		}
	}
	unlock()
	return nil, err
}

// again reads a device once more. Until its lock and its PF's are held, its
// driver may change, and the PF's VFs.
func (j *job) again(d *Device) error {
	if d.Index >= 0 {
		now, err := j.Sys.VF(d.PCI)
		if err != nil {
			return network.Again.Errorf("sriov: %s has gone meanwhile: %v", d, err) // whatever asked for it
		}
		*d = *now
		return nil
	}
	pf := d.PF
	if err := j.againPF(&pf); err != nil {
		return err
	}
	*d = *j.Sys.whole(&pf)
	return nil
}

// againPF reads a PF once more. Its name stays as `master` has it.
func (j *job) againPF(pf *PF) error {
	now, err := j.Sys.PF(pf.PCI)
	if err != nil {
		return err
	}
	now.Name = pf.Name
	*pf = *now
	return nil
}

// lockPF takes the PF's own lock. For a PF that goes to a pod it is held already.
func (j *job) lockPF(ctx context.Context, d *Device) (func(), error) {
	if d.PF.PCI == d.PCI {
		return func() {}, nil
	}
	return j.claims.lock(ctx, d.PF.PCI)
}

// vacate makes sure that nobody has the device: what an ended pod left on it
// is undone. It returns the holder if there is one. The device's lock is held.
func (j *job) vacate(ctx context.Context, d *Device) (holder string, err error) {
	r, err := j.claims.Get(d.PCI)
	if err != nil {
		return "", err
	}
	if r == nil {
		return j.vacateForeign(ctx, d)
	}
	netns := r.Live(j.boot)
	if netns != "" && !r.isOf(j.call.ContainerID, j.call.IfName) {
		if r.Container == j.call.ContainerID {
			return "", network.Invalid.Errorf("sriov: %s: this pod has it already, as %s by network %s: two networks cannot have one VF", d, r.IfName, r.Network)
		}
		return r.Holder(), nil
	}
	j.log.Info("releasing what an ended pod left on a VF", "device", d.String(), "held by", r.Holder())
	if err = j.restore(ctx, r, netns); err != nil {
		return "", network.Again.Errorf("sriov: %s was held by %s and cannot be restored yet: %w", d, r.Holder(), errors.Join(err, j.quarantine(r, err)))
	}
	if err = j.claims.release(r); err != nil {
		return "", err
	}
	return j.vacateForeign(ctx, d) // sriov-cni may have been faster
}
