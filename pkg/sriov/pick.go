package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pick takes a free VF of a PF: the first that nobody has, else the first
// that only an ended pod left something on.
func (j *job) pick(ctx context.Context, pf *PF) (*held, error) {
	unlock, err := j.claims.lock(ctx, pf.PCI)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err = j.againPF(pf); err != nil {
		return nil, err
	}
	if len(pf.VFs) == 0 {
		return nil, j.noVFs(pf)
	}
	advertised, err := j.claims.Advertised()
	if err != nil {
		return nil, err
	}
	var taken []string
	for _, wantClean := range []bool{true, false} {
		taken = nil
		for i, pci := range pf.VFs {
			if resource := advertised[pci]; resource != "" {
				taken = append(taken, fmt.Sprintf("%d is advertised as %s", i, resource))
				continue
			}
			h, why, tryErr := j.tryPick(ctx, pf, i, wantClean)
			if tryErr != nil || h != nil {
				return h, tryErr
			}
			taken = append(taken, fmt.Sprintf("%d %s", i, why))
		}
	}
	reason := network.Again
	if len(advertised) > 0 && !slices.ContainsFunc(taken, func(s string) bool { return !strings.Contains(s, " is advertised as ") }) {
		reason = network.Invalid // none will ever be free
	}
	return nil, reason.Errorf("sriov: master %q: none of its %d VFs is free: %s; delete a pod, add VFs, or name another PF", pf.Name, len(pf.VFs), strings.Join(taken, "; "))
}

// tryPick takes one VF if it is free, and says why not otherwise. The PF's
// lock is held; the VF's is only tried: its holder may wait for the PF's.
func (j *job) tryPick(ctx context.Context, pf *PF, index int, wantClean bool) (*held, string, error) {
	pci := pf.VFs[index]
	at, cancel := context.WithCancel(ctx)
	cancel()
	unlock, err := j.claims.lock(at, pci)
	if errors.Is(err, lockfile.ErrBusy) {
		return nil, "is being worked on", nil
	}
	if err != nil {
		return nil, "", err
	}
	h, why, err := j.pickLocked(ctx, pf, index, wantClean)
	if h == nil {
		unlock()
		return nil, why, err
	}
	h.unlock = unlock
	return h, "", nil
}

func (j *job) pickLocked(ctx context.Context, pf *PF, index int, wantClean bool) (*held, string, error) {
	d, err := j.Sys.vfOf(pf, index)
	if err != nil {
		return nil, "", err
	}
	r, err := j.claims.Get(d.PCI)
	switch {
	case err != nil:
		return nil, err.Error(), nil
	case r != nil && r.Failed != "":
		return nil, "is quarantined: " + r.Failed, nil
	case r != nil && wantClean:
		return nil, "is held by " + r.Holder(), nil
	case r == nil && d.Netdev == "":
		return nil, "has no network device on the node (driver " + orNone(d.Driver) + ")", nil
	}
	why, err := j.free(ctx, d)
	if err != nil || why != "" {
		return nil, why, err
	}
	h, err := j.claim(ctx, d, true)
	return h, "", err
}

// free makes sure that neither a pod nor the node has a device, and says why
// not otherwise.
func (j *job) free(ctx context.Context, d *Device) (why string, err error) {
	var link Link
	holder, err := j.vacate(ctx, d)
	if err == nil && holder == "" {
		if err = j.again(d); err == nil { // it may have another driver and name than before
			link, err = j.appear(ctx, d)
		}
	}
	switch {
	case err != nil:
		return err.Error(), nil //nolint:nilerr // said of this VF; another may do
	case holder != "":
		return "is held by " + holder, nil
	case d.Netdev == "" || d.userspace():
		return "has no network device on the node (driver " + orNone(d.Driver) + ")", nil
	}
	return j.Sys.nodeUse(j.host, d, &link, true)
}
