package sriov

import (
	"context"
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

var _ network.Collector = (*Plugin)(nil)

// Collect implements network.Collector: devices whose pod's namespace is gone
// come home. One whose namespace lives stays: an ADD may be at work on it.
func (p *Plugin) Collect(ctx context.Context, stateDir string) error {
	j, err := p.begin(network.Call{StateDir: stateDir}, &Conf{})
	if err != nil {
		return err
	}
	defer j.end()
	all, err := j.claims.All()
	failed := []error{err}
	for _, r := range all {
		if r.Live(j.boot) == "" {
			failed = append(failed, j.collect(ctx, r.PCI))
		}
	}
	return errors.Join(failed...)
}

// collect restores a device, if it is still what the list said.
func (j *job) collect(ctx context.Context, pci string) error {
	unlock, err := j.claims.lock(ctx, pci)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := j.claims.Get(pci)
	if err != nil || r == nil || r.Live(j.boot) != "" {
		return err
	}
	if err = j.restore(ctx, r, ""); err != nil {
		return errors.Join(err, j.quarantine(r, err))
	}
	return j.claims.release(r)
}
