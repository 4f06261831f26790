package sriov

import (
	"context"
	"errors"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// del is DEL: the addresses go back, then the device comes home. Each is
// tried whatever becomes of the other.
func (j *job) del(ctx context.Context) error {
	_, err := j.ipam(ctx)
	if err != nil {
		err = fmt.Errorf("give the addresses back: %w", err)
	}
	return errors.Join(err, j.giveBack(ctx))
}

// giveBack restores what the attachment's ADD recorded, if the device is
// still this attachment's.
func (j *job) giveBack(ctx context.Context) error {
	r, err := j.recorded()
	if err != nil {
		return err
	}
	if r == nil {
		return j.giveBackForeign(ctx)
	}
	unlock, err := j.claims.lock(ctx, r.PCI)
	if err != nil {
		return err
	}
	defer unlock()
	claim, err := j.claims.Get(r.PCI)
	if err != nil {
		return err
	}
	if claim != nil && !claim.isOf(r.Container, r.IfName) {
		j.log.Info("the VF is another pod's by now and is left alone", "device", r.PCI, "held by", claim.Holder())
		return nil
	}
	netns := r.Live(j.boot, j.call.Netns)
	if claim == nil {
		// Given back already, or never touched; or the claim was lost, and the
		// device is where ADD put it.
		if lost, lookErr := j.isIn(netns, r.PCI); lookErr != nil || !lost {
			return lookErr
		}
	}
	if err = j.restore(ctx, r, netns); err != nil {
		return errors.Join(err, j.quarantine(r, err))
	}
	return j.claims.release(r)
}

// isIn reports whether a device is in a namespace; "" has none.
func (j *job) isIn(netns, pci string) (bool, error) {
	if netns == "" {
		return false, nil
	}
	pod, err := j.Kernel.Open(netns)
	if errors.Is(err, network.Missing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer pod.Close()
	link, err := byPCI(pod, pci)
	return link != nil, err
}

// quarantine keeps a device that could not be restored from other pods, and
// says why. A later DEL, GC, or ADD that asks for this very device tries again.
func (j *job) quarantine(r *Record, cause error) error {
	r.Failed = cause.Error()
	return j.claims.put(r)
}

// byPCI finds a PCI device's network device in a namespace, whatever its
// name: nil if it is not there.
func byPCI(ns Netns, pci string) (*Link, error) {
	links, err := ns.Links()
	if err != nil {
		return nil, err
	}
	for i := range links {
		if links[i].PCI == pci {
			return &links[i], nil
		}
	}
	return nil, nil
}
