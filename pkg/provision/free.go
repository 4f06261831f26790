package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// hold makes sure that nobody has a VF, and takes its lock, so that it stays
// so. since is when it was first withheld, zero if it is offered. An ADD may
// have the lock of a fresh one already, of a pod that had its address before a
// reboot: it cannot claim the VF without the PF's lock, which is ours.
func (j *job) hold(ctx context.Context, d *sriov.Device, since time.Time) (unlock func(), err error) {
	unlock, err = j.Claims.TryLock(ctx, d.PCI)
	if err != nil && !errors.Is(err, network.Again) {
		return nil, err
	}
	if err != nil && !j.record.fresh() {
		return nil, &heldError{why: fmt.Sprintf("%s is being worked on", d)}
	}
	if err != nil {
		unlock = func() {}
	}
	why, err := j.holder(ctx, d, since)
	if err == nil && why == "" {
		return unlock, nil
	}
	unlock()
	if err == nil {
		err = &heldError{why: fmt.Sprintf("%s %s", d, why)}
	}
	return nil, err
}

// holder says who has a VF, "" = nobody.
func (j *job) holder(ctx context.Context, d *sriov.Device, since time.Time) (why string, err error) {
	holding := sriov.Holding{Boot: j.boot, Made: j.record.Made, Lives: j.Lives}
	why, err = j.Claims.Holder(d.PCI, holding)
	if err != nil || why != "" {
		if why != "" {
			why = "is held by " + why
		}
		return why, err
	}
	if j.record.fresh() {
		return "", nil
	}
	left := j.Grace
	if !since.IsZero() {
		left = since.Add(j.Grace).Sub(j.Now())
	}
	if left > 0 {
		return "", &heldError{why: fmt.Sprintf("%s is no longer offered, and is changed when no pod turns out to have it", d), again: left}
	}
	if err = j.askKubelet(ctx, since.Add(j.Grace)); err != nil {
		return "", err
	}
	if pod := j.allocated[d.PCI]; pod != "" {
		return "was given to pod " + pod + " by kubelet", nil
	}
	return j.Sys.NodeUse(j.host, d)
}

// kubeletPatience is how long kubelet's answer is waited for.
const kubeletPatience = 10 * time.Second

// askKubelet asks, unless it did so after that time: a VF may be given until
// its grace is over.
func (j *job) askKubelet(ctx context.Context, after time.Time) error {
	if j.Allocated == nil || j.allocated != nil && !j.asked.Before(after) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kubeletPatience)
	defer cancel()
	asked := j.Now()
	given, err := j.Allocated(ctx)
	if err != nil {
		return &heldError{why: fmt.Sprintf("kubelet does not say which pods have VFs of PF %s, so they stay as they are: %v", j.pci, err)}
	}
	j.asked, j.allocated = asked, map[string]string{}
	for id, pod := range given {
		if pci, pciErr := sriov.NormalPCI("", id); pciErr == nil {
			j.allocated[pci] = pod
		}
	}
	return nil
}

// holdAll is hold for every VF of the PF.
func (j *job) holdAll(ctx context.Context) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	for i := range j.pf.VFs {
		d, memberErr := j.Sys.Member(j.pf, i)
		if memberErr != nil {
			unlock()
			return nil, memberErr
		}
		u, holdErr := j.hold(ctx, d, j.since)
		if holdErr != nil {
			unlock()
			return nil, holdErr
		}
		held = append(held, u)
	}
	return unlock, nil
}

// link returns the PF's own network device.
func (j *job) link() (sriov.Link, error) {
	if j.pf.Name == "" {
		return sriov.Link{}, &heldError{why: fmt.Sprintf("PF %s has no network device on the node (driver %q): a pod may have it, or its driver is not loaded", j.pci, j.pf.Driver)}
	}
	l, err := sriov.LinkOf(j.host, j.pf.Name, j.pci)
	if err != nil {
		return l, network.Again.Errorf("find PF %s: %w", j.pf.Name, err)
	}
	return l, nil
}
