package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// homePatience is how long a device is waited for whose namespace is being
// taken apart, or whose driver was bound anew.
const homePatience = 3 * time.Second

// restore brings a device from wherever and however it is to what the record
// says it was, field by field. netns is where the pod's namespace can be
// reached, "" when it is gone. The device's lock is held. All is tried; the
// error joins what failed, and then it can be called again.
func (j *job) restore(ctx context.Context, r *Record, netns string) error {
	if r.Boot != j.boot {
		return nil // the state ended with that boot
	}
	if j.takenByForeign(r) {
		j.log.Info("sriov-cni gave the VF to another pod by now: it is left alone", "device", r.PCI)
		return nil
	}
	d, err := j.device(r)
	if err != nil {
		return err
	}
	if d == nil {
		j.log.Info("the device is gone from the node: there is nothing to restore", "device", r.PCI)
		return nil
	}
	pod, err := j.openIfThere(netns)
	if err != nil {
		return err
	}
	if pod != nil {
		defer pod.Close()
	}
	var failed []error
	// Down first: it must not send under a tag that is not its own.
	failed = append(failed, j.silence(ctx, d, pod))
	settle := func() (failed []error) {
		if r.Original.Admin != nil {
			failed = j.settle(ctx, d, *r.Original.Admin)
		}
		return failed
	}
	settled := settle()
	link, err := j.bringHome(ctx, r, d, pod)
	if link != nil {
		// Once more: a VF that is reset on its way, and is trusted meanwhile, may
		// have told the PF the pod's address again (igb).
		settled = settle()
	}
	failed = append(failed, settled...)
	if failed = append(failed, err); link != nil {
		failed = append(failed, j.refurnish(ctx, r, d, *link))
	}
	if err = errors.Join(failed...); err != nil {
		return network.IO.Errorf("sriov: restore %s: %w", d, err)
	}
	return nil
}

// device returns the record's device, nil when the node has it no more.
func (j *job) device(r *Record) (*Device, error) {
	if !j.Sys.has(r.PCI) || r.Index >= 0 && !j.Sys.isVF(r.PCI) { // or another card is there now
		return nil, nil
	}
	if r.Index >= 0 {
		return j.Sys.VF(r.PCI)
	}
	pf, err := j.Sys.PF(r.PCI)
	if err != nil {
		return nil, err
	}
	return j.Sys.whole(pf), nil
}

// openIfThere opens a namespace, nil when it is gone.
func (j *job) openIfThere(netns string) (Netns, error) {
	if netns == "" {
		return nil, nil
	}
	pod, err := j.Kernel.Open(netns)
	if errors.Is(err, network.Missing) {
		return nil, nil
	}
	return pod, err
}

// silence takes the device down where it is in the pod.
func (j *job) silence(ctx context.Context, d *Device, pod Netns) error {
	if pod == nil {
		return nil
	}
	link, err := byPCI(pod, d.PCI)
	if err != nil || link == nil {
		return err
	}
	return j.setUp(ctx, pod, link.Index, false)
}

// bringHome returns the device's network device, on the node: moved out of
// the pod, or as the kernel gave it back when the pod's namespace ended, or
// made anew by its driver. nil = a process drives it, now or before.
func (j *job) bringHome(ctx context.Context, r *Record, d *Device, pod Netns) (*Link, error) {
	if r.Original.Netdev == "" || d.userspace() {
		return nil, nil
	}
	if pod != nil {
		link, err := byPCI(pod, d.PCI)
		if err == nil && link != nil {
			err = j.moveOut(r, *link, pod)
		}
		if err != nil {
			return nil, err
		}
	}
	link, err := j.awaitHome(ctx, d)
	if err != nil || link != nil && (!link.XDP || d.Index < 0) {
		return link, err
	}
	if d.Index < 0 {
		return nil, fmt.Errorf("its network device did not come back to the node, and without it its VFs would end: it is in another namespace, or its driver has a fault; reload the driver %s", r.Original.Driver)
	}
	j.log.Warn("the network device did not come back, or with a program of the pod on it: its driver is bound anew", "device", d.String(), "driver", r.Original.Driver)
	if err = j.Kernel.Rebind(d.PCI, r.Original.Driver); err != nil {
		return nil, err
	}
	link, err = j.awaitHome(ctx, d)
	if link == nil && err == nil {
		err = fmt.Errorf("its driver %s makes no network device for it", r.Original.Driver)
	}
	return link, err
}

// awaitHome waits for the network device to be on the node.
func (j *job) awaitHome(ctx context.Context, d *Device) (*Link, error) {
	waiting, cancel := context.WithTimeout(ctx, homePatience)
	defer cancel()
	for last := false; ; last = wait(waiting, pause) != nil { // and once more after that
		name, err := j.Sys.home(d)
		if err != nil {
			return nil, err
		}
		if name != "" {
			link, lookErr := LinkOf(j.host, name, d.PCI)
			if lookErr == nil {
				return &link, nil
			}
			if !errors.Is(lookErr, ErrNoLink) { // renamed in this moment
				return nil, lookErr
			}
		}
		if last {
			return nil, ctx.Err()
		}
	}
}

// moveOut moves a device from the pod to the node under its old name. If that
// is taken meanwhile it gets another: a name is no reason to lose a device.
// The kernel moves before it renames: where only the rename was refused, the
// device is home already, and refurnish names it.
func (j *job) moveOut(r *Record, link Link, pod Netns) error {
	name := r.Original.Netdev
	// One that the node has too would keep it in the pod; its own come back in
	// renameAlso.
	for _, also := range link.AltNames {
		if err := pod.DelAltName(link.Index, also); err != nil {
			return fmt.Errorf("take the alternative name %s off: %w", also, err)
		}
	}
	for _, as := range []string{name, spareName(r)} {
		err := pod.Move(link.Index, j.host, as, 0)
		if err == nil {
			return nil
		}
		still, lookErr := byPCI(pod, r.PCI)
		if !errors.Is(err, unix.EEXIST) || lookErr != nil {
			return errors.Join(fmt.Errorf("move %s back to the node: %w", link.Name, err), lookErr)
		}
		if still == nil {
			return nil
		}
	}
	return fmt.Errorf("move %s back to the node: %w", link.Name, unix.EEXIST)
}

// spareName is a name that only this device can have on the node, should its
// own be taken: its place on the PCI bus, without the domain.
func spareName(r *Record) string {
	tail := r.PCI[max(0, len(r.PCI)-len("00:00.0")):]
	return "vf" + string([]byte{tail[0], tail[1], tail[3], tail[4], tail[6]})
}

// refurnish gives a device that is home its name, MTU, address, alternative
// names and state back. Each is tried.
func (j *job) refurnish(ctx context.Context, r *Record, d *Device, link Link) error {
	var failed []error
	was := r.Original
	if err := j.rename(ctx, r, &link); err != nil {
		failed = append(failed, err)
	}
	if was.Flags != nil && link.Flags != *was.Flags {
		if err := j.host.SetFlags(link.Index, *was.Flags); err != nil {
			failed = append(failed, fmt.Errorf("set its flags back: %w", err))
		}
	}
	if was.MTU != 0 && link.MTU != was.MTU {
		if err := j.host.SetMTU(link.Index, was.MTU); err != nil {
			failed = append(failed, fmt.Errorf("set its MTU back to %d: %w", was.MTU, err))
		}
	}
	// A driver that was bound anew may have chosen another address.
	if was.MAC != "" && link.MAC != was.MAC {
		if err := j.settleMAC(ctx, j.host, link.Index, link.Name, was.MAC); err != nil && !j.hasFixed(r, d, link.Name) {
			failed = append(failed, err)
		}
	}
	failed = append(failed, j.renameAlso(was.AltNames, link))
	if link.Up != was.Up {
		if err := j.setUp(ctx, j.host, link.Index, was.Up); err != nil {
			failed = append(failed, fmt.Errorf("set %s up again: %w", d, err))
		}
	}
	return errors.Join(failed...)
}

// hasFixed reports whether a device has the address that its PF holds for it.
// An administrator may have set that before the pod came: it reaches the VF
// with the first reset, and then the VF may take no other, nor its old one.
func (j *job) hasFixed(r *Record, d *Device, name string) bool {
	if d.Index < 0 {
		return false
	}
	pf, err := j.pf(d)
	if err != nil {
		return false
	}
	now, err := j.admin(pf, d)
	if err != nil || r.Original.Admin != nil && now.MAC != r.Original.Admin.MAC {
		return false
	}
	link, err := j.host.LinkByName(name)
	return err == nil && link.MAC == now.MAC
}

// rename gives a device its old name back: one whose namespace ended comes
// with the pod's.
func (j *job) rename(ctx context.Context, r *Record, link *Link) error {
	name := r.Original.Netdev
	if link.Name == name {
		return nil
	}
	if link.Up {
		if err := j.setUp(ctx, j.host, link.Index, false); err != nil {
			return err
		}
		link.Up = false
	}
	if slices.Contains(link.AltNames, name) {
		if err := j.host.DelAltName(link.Index, name); err != nil {
			return fmt.Errorf("take the alternative name %s off: %w", name, err)
		}
	}
	err := j.host.Rename(link.Index, name)
	if errors.Is(err, unix.EEXIST) {
		j.log.Warn("another network device of the node has the VF's old name", "name", name, "gets", spareName(r))
		name = spareName(r)
		err = j.host.Rename(link.Index, name)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", link.Name, name, err)
	}
	link.Name = name
	return nil
}

// renameAlso gives a device its alternative names back, and no others.
func (j *job) renameAlso(want []string, link Link) error {
	var failed []error
	for _, name := range link.AltNames {
		if !slices.Contains(want, name) && name != link.Name {
			failed = append(failed, j.host.DelAltName(link.Index, name))
		}
	}
	for _, name := range want {
		if slices.Contains(link.AltNames, name) || name == link.Name {
			continue
		}
		// One that another device took meanwhile is its now.
		if err := j.host.AddAltName(link.Index, name); err != nil && !errors.Is(err, unix.EEXIST) {
			failed = append(failed, fmt.Errorf("add the alternative name %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}
