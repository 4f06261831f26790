package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// linkPatience is how long a driver that resets is waited for.
const linkPatience = 5 * time.Second

// add is ADD. What it did when it fails is undone by the DEL that follows.
func (j *job) add(ctx context.Context) ([]byte, error) {
	h, err := j.occupy(ctx)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	if err = j.configure(ctx, h); err != nil {
		return nil, err
	}
	pod, link, err := j.handOver(ctx, h)
	if err != nil {
		return nil, err
	}
	if pod != nil {
		defer pod.Close()
	}
	result, err := j.address(ctx, pod, link)
	if err != nil {
		return nil, err
	}
	j.describe(h, link, result)
	if err = j.writeDeviceInfo(h); err != nil {
		return nil, err
	}
	return j.encode(result)
}

// configure sets what the PF holds for the VF. The VF's own address comes
// first: once the PF has fixed one, a VF that is not trusted may not change it.
func (j *job) configure(ctx context.Context, h *held) error {
	if h.link.Up {
		if err := j.setUp(ctx, j.host, h.link.Index, false); err != nil {
			return fmt.Errorf("take %s down: %w", h, err)
		}
	}
	if h.record.Applied == nil {
		return nil
	}
	if j.conf.MAC != "" && h.link.Index != 0 && h.link.MAC != j.conf.MAC {
		if err := j.host.SetMAC(h.link.Index, j.conf.MAC); err != nil {
			j.log.Debug("the VF does not take its address yet", "error", err.Error())
		}
	}
	var pin []Knob
	if j.conf.MAC != "" { // some PFs show what the VF itself chose, and fix what they are told only
		pin = append(pin, KnobMAC)
	}
	var failed []error
	for _, err := range j.settle(ctx, h.Device, *h.record.Applied, pin...) {
		var unsupported *unsupportedError
		if errors.As(err, &unsupported) && j.conf.Unsupported == BestEffort {
			j.log.Warn(err.Error())
			continue
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// handOver gives the network device to the pod, under its name there. A VF
// that a process drives has none: its namespace is not opened.
func (j *job) handOver(ctx context.Context, h *held) (Netns, Link, error) {
	if h.link.Index == 0 {
		return nil, Link{}, nil
	}
	pod, err := j.Kernel.Open(j.call.Netns)
	if err != nil {
		return nil, Link{}, err
	}
	link, err := j.moveIn(ctx, h, pod)
	if err != nil {
		pod.Close()
		return nil, Link{}, err
	}
	return pod, link, nil
}

func (j *job) moveIn(ctx context.Context, h *held, pod Netns) (Link, error) {
	ifname := j.call.IfName
	if slices.Contains(h.link.AltNames, ifname) {
		if err := j.host.DelAltName(h.link.Index, ifname); err != nil {
			return Link{}, fmt.Errorf("take the alternative name %s off %s: %w", ifname, h, err)
		}
	}
	if err := j.host.Move(h.link.Index, pod, ifname, j.conf.MTU); err != nil {
		return Link{}, j.moveFailed(h, pod, err)
	}
	link, err := pod.LinkByName(ifname)
	if err != nil {
		return link, fmt.Errorf("find %s in the pod: %w", h, err)
	}
	if err = pod.Prepare(ifname); err != nil {
		return link, err
	}
	if j.conf.MAC != "" {
		if err = j.settleMAC(ctx, pod, link.Index, ifname, j.conf.MAC); err != nil {
			return link, err
		}
	}
	if err = j.setUp(ctx, pod, link.Index, true); err != nil {
		return link, fmt.Errorf("take %s up in the pod: %w", h, err)
	}
	if j.conf.MAC != "" { // a driver may reset the VF as it comes up
		if err = j.settleMAC(ctx, pod, link.Index, ifname, j.conf.MAC); err != nil {
			return link, err
		}
	}
	return pod.LinkByName(ifname)
}

// moveFailed says which of the three things that Move does was refused.
func (j *job) moveFailed(h *held, pod Netns, err error) error {
	if _, lookErr := pod.LinkByName(j.call.IfName); errors.Is(err, unix.EEXIST) && lookErr == nil {
		return network.Invalid.Errorf("sriov: the pod has an interface %q already: choose another name for this network in the pod's annotation", j.call.IfName)
	}
	if j.conf.MTU != 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EPERM)) {
		return network.Invalid.Errorf("sriov: mtu %d: driver %s of %s refuses it: %w; a VF's MTU is at most its PF's with many drivers", j.conf.MTU, h.Driver, h, err)
	}
	return fmt.Errorf("move %s to the pod as %s: %w", h, j.call.IfName, err)
}

// settleMAC makes a device have an address. A driver under which the PF has
// fixed it refuses, or shows it after a reset only: going up and down is one.
// The device is left as up as it was.
func (j *job) settleMAC(ctx context.Context, ns Netns, index int, name, mac string) error {
	patience, cancel := context.WithTimeout(ctx, knobPatience)
	defer cancel()
	for last := false; ; last = wait(patience, knobPause) != nil { // and once more after that
		link, err := ns.LinkByName(name)
		if err != nil || link.MAC == mac {
			return err
		}
		if err = ns.SetMAC(index, mac); err != nil && !busy(err) {
			for _, up := range []bool{!link.Up, link.Up} {
				if upErr := j.setUp(ctx, ns, index, up); upErr != nil {
					return upErr
				}
			}
		}
		if now, lookErr := ns.LinkByName(name); lookErr != nil || now.MAC == mac {
			return lookErr
		}
		if last {
			return network.Again.Errorf("sriov: %s does not take the address %s within %s: %w", name, mac, knobPatience, err)
		}
	}
}

// setUp takes a device up or down, and waits for a driver that is busy.
func (j *job) setUp(ctx context.Context, ns Netns, index int, up bool) error {
	patience, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	for last := false; ; last = wait(patience, knobPause) != nil { // and once more after that
		err := ns.SetUp(index, up)
		if !busy(err) || last {
			return err
		}
	}
}

// describe completes the result with the interface.
func (j *job) describe(h *held, link Link, result *current.Result) {
	nic := &current.Interface{Name: j.call.IfName, Sandbox: j.call.Netns, PciID: h.PCI, Mac: link.MAC, Mtu: link.MTU}
	if nic.Mac == "" && h.record.Applied != nil && h.record.Applied.MAC != zeroMAC {
		nic.Mac = h.record.Applied.MAC // what the process that drives it should use
	}
	result.Interfaces = []*current.Interface{nic}
	for _, ip := range result.IPs {
		ip.Interface = current.Int(0)
	}
}

// writeDeviceInfo leaves the device's information where the meta-plugin asked
// for it (device-info-spec 1.1.0 section 5.1), unless the device plugin's own
// stands there.
func (j *job) writeDeviceInfo(h *held) error {
	path := j.conf.RuntimeConfig.DeviceInfoFile
	if path == "" || exists(path) {
		return nil
	}
	pci := map[string]string{"pci-address": h.PCI}
	if h.Index >= 0 {
		pci["pf-pci-address"] = h.PF.PCI
	}
	raw, err := json.Marshal(map[string]any{"type": "pci", "version": "1.1.0", "pci": pci})
	if err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		// On the pod's status it is shown to everybody anyway.
		err = os.WriteFile(path, raw, 0o644) //nolint:gosec // see above
	}
	if err != nil {
		return network.IO.Errorf("sriov: write the device information: %w", err)
	}
	return nil
}

// encode prints the result at the configuration's version; one without a
// version is the first (CNI 0.1.0).
func (j *job) encode(result *current.Result) ([]byte, error) {
	version, err := create.DecodeVersion(j.call.Stdin)
	if err != nil {
		return nil, network.Malformed.Errorf("sriov: cniVersion: %w", err)
	}
	out, err := types.Result(result).GetAsVersion(version)
	if err != nil {
		return nil, network.Unsupported.Errorf("sriov: %w", err)
	}
	return json.Marshal(out)
}
