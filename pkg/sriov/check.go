package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// check is CHECK: the device is in the pod under its name, and it and its PF
// hold what ADD set. Errors are of kind Missing and name all that differs.
func (j *job) check(ctx context.Context) error {
	r, err := j.recorded()
	if err != nil {
		return err
	}
	if r == nil {
		return network.Missing.Errorf("sriov: no record of a VF for container %s (%s): delete the pod, so that it gets one", j.call.ContainerID, j.call.IfName)
	}
	claim, err := j.claims.Get(r.PCI)
	if err != nil {
		return err
	}
	if claim == nil || !claim.isOf(r.Container, r.IfName) {
		return network.Missing.Errorf("sriov: device %s is not claimed for this container", r.PCI)
	}
	d, err := j.device(r)
	if err != nil {
		return err
	}
	if d == nil {
		return network.Missing.Errorf("sriov: device %s is gone from the node: its PF's VFs were removed", r.PCI)
	}
	differs := []error{j.checkLink(r, d), j.checkAdmin(r, d)}
	if _, err = j.ipam(ctx); err != nil {
		differs = append(differs, err)
	}
	return errors.Join(differs...)
}

func (j *job) checkLink(r *Record, d *Device) error {
	if r.Original.Netdev == "" {
		return nil // a process drives it
	}
	pod, err := j.Kernel.Open(j.call.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	link, err := byPCI(pod, d.PCI)
	if err != nil {
		return err
	}
	if link == nil {
		return network.Missing.Errorf("sriov: %s is not in the pod's namespace %s", d, j.call.Netns)
	}
	var differs []error
	expect := func(what string, has, want any) {
		if has != want {
			differs = append(differs, network.Missing.Errorf("sriov: %s of %s is %v, was set to %v", what, d, has, want))
		}
	}
	expect("the name", link.Name, j.call.IfName)
	if r.MAC != "" {
		expect("the address", link.MAC, r.MAC)
	}
	if j.conf.MTU != 0 {
		expect("the MTU", link.MTU, j.conf.MTU)
	}
	expect("up", link.Up, true)
	want, err := j.conf.previous()
	if err != nil {
		return err
	}
	has, err := pod.Addresses(link.Index)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", d, err)
	}
	for _, p := range want {
		if !slices.Contains(has, p) {
			differs = append(differs, network.Missing.Errorf("sriov: %s lacks the address %s", d, p))
		}
	}
	return errors.Join(differs...)
}

func (j *job) checkAdmin(r *Record, d *Device) error {
	if r.Applied == nil {
		return nil
	}
	pf, err := j.pf(d)
	if err != nil {
		return err
	}
	now, err := j.admin(pf, d)
	if err != nil {
		return err
	}
	var differs []error
	for _, k := range r.Set {
		// What the driver does not have was said at ADD.
		if has, want := now.value(k), r.Applied.value(k); has != want && j.conf.Unsupported != BestEffort {
			differs = append(differs, network.Missing.Errorf("sriov: %s of %s is %s, was set to %s", k, d, has, want))
		}
	}
	return errors.Join(differs...)
}
