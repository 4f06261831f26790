package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// gc is GC: devices of this network whose pod's namespace is gone come home.
// One whose namespace lives stays, listed or not: an ADD may be at work that
// began after the list was made.
func (j *job) gc(ctx context.Context) error {
	var valid struct {
		Attachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal(j.call.Stdin, &valid); err != nil {
		return network.Malformed.Errorf("sriov: cni.dev/valid-attachments: %w", err)
	}
	all, err := j.claims.All()
	failed := []error{err}
	for _, r := range all {
		listed := slices.ContainsFunc(valid.Attachments, func(a types.GCAttachment) bool { return r.isOf(a.ContainerID, a.IfName) })
		if r.Network == j.conf.Name && !listed && r.Live(j.boot) == "" {
			failed = append(failed, j.collect(ctx, r.PCI))
		}
	}
	return errors.Join(append(failed, j.ipamGC(ctx))...)
}

// ipamGC asks the network's IPAM plugin, which keeps no less than the device.
func (j *job) ipamGC(ctx context.Context) error {
	_, err := j.ipam(ctx)
	return err
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
	return errors.Join(j.claims.drop(pci), j.claims.dropForeign(r))
}
