package sriov

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// What making VFs needs besides: see pkg/provision.

// NumVFs returns how many VFs a PF has, as it says itself: while they come or
// go, the links to them are behind.
func (s Sysfs) NumVFs(pf string) (int, error) {
	n, err := s.number(pf, "sriov_numvfs")
	if err != nil {
		return 0, network.IO.Errorf("read how many VFs PF %s has: %w", pf, err)
	}
	return n, nil
}

// Autoprobe reports whether new VFs of a PF get a driver by themselves. On a
// kernel without that switch they do.
func (s Sysfs) Autoprobe(pf string) bool {
	return readWord(filepath.Join(s.dir(pf), "sriov_drivers_autoprobe")) != "0"
}

// Override returns the one driver that a function is tied to, "" = none.
func (s Sysfs) Override(pci string) string {
	name := readWord(filepath.Join(s.dir(pci), "driver_override"))
	if name == "(null)" {
		return ""
	}
	return name
}

// HasDriver reports whether the kernel has loaded a driver for PCI functions.
func (s Sysfs) HasDriver(name string) bool {
	return exists(filepath.Join(s.driverDir(name)))
}

func (s Sysfs) driverDir(name string) string {
	return filepath.Join(string(s), "bus", "pci", "drivers", name)
}

// Complete says what of a PF's n VFs is not there yet, "" = nothing: the link
// to each, and each one's back.
func (s Sysfs) Complete(pf string, n int) string {
	for i := range n {
		link := "virtfn" + strconv.Itoa(i)
		vf := linkBase(filepath.Join(s.dir(pf), link))
		if vf == "" || !s.has(vf) {
			return fmt.Sprintf("VF %d (no %s in %s)", i, link, s.dir(pf))
		}
		if !s.isVF(vf) {
			return fmt.Sprintf("the PF of VF %d (no physfn in %s)", i, s.dir(vf))
		}
	}
	return ""
}

// Member returns a VF of a PF by its index.
func (s Sysfs) Member(pf *PF, index int) (*Device, error) {
	if index < 0 || index >= len(pf.VFs) {
		return nil, network.Invalid.Errorf("sriov: PF %s has %d VFs, and none of index %d", pf.PCI, len(pf.VFs), index)
	}
	return s.vfOf(pf, index)
}

// Userspace reports whether the driver hands the device to a process: it has
// no network device then.
func (d *Device) Userspace() bool { return d.userspace() }

// NodeUse says what the node itself uses a device for, "" = nothing that
// shows: a bridge, a VLAN, an address, or another namespace that has it.
func (s Sysfs) NodeUse(host Netns, d *Device) (string, error) {
	if d.Netdev == "" {
		if d.Driver == "" || d.userspace() {
			return "", nil
		}
		return "has no network device on the node, although driver " + d.Driver + " is bound: another program may have moved it to a namespace of its own", nil
	}
	link, err := LinkOf(host, d.Netdev, d.PCI)
	if errors.Is(err, ErrNoLink) {
		return "has just lost its network device, or got another name for it", nil
	}
	if err != nil {
		return "", err
	}
	return s.nodeUse(host, d, &link, true)
}

// Lock takes the lock of a PF or VF until the returned function is called. No
// VF of a locked PF is picked or claimed meanwhile. Errors of the kind Again:
// another call has it until ctx ends.
func (c Claims) Lock(ctx context.Context, pci string) (unlock func(), err error) {
	return c.lock(ctx, pci)
}

// TryLock takes the lock of a VF if nobody has it: who waited for it while the
// PF's is held could wait for one that waits for the PF's.
func (c Claims) TryLock(ctx context.Context, pci string) (unlock func(), err error) {
	at, cancel := context.WithCancel(ctx)
	cancel()
	return c.lock(at, pci)
}

// Holding says when a device counts as somebody's.
type Holding struct {
	Boot string // this boot: claims of another were about devices that ended with it
	// Made is when the VF came to be: what sriov-cni wrote before was about
	// another one. Zero = not known.
	Made time.Time
	// Lives reports whether a namespace of sriov-cni's is there; nil: each
	// counts as there.
	Lives func(podns.Ref) bool
}

// coarse is how far a file's time may be behind the clock: the kernel takes it
// from its last tick.
const coarse = 10 * time.Millisecond

// Holder says which pod has a device by its claim, or by sriov-cni's word, ""
// = none. A pod that has ended holds it until it is released.
func (c Claims) Holder(pci string, h Holding) (string, error) {
	r, err := c.Get(pci)
	if err != nil {
		return "", err
	}
	if r != nil && r.Boot == h.Boot {
		return r.Holder(), nil
	}
	path := c.foreignHolder(pci)
	if path == "" || h.Lives != nil && !h.Lives(podns.Ref{Path: path, Boot: h.Boot}) {
		return "", nil
	}
	file := filepath.Join(c.Foreign, "pci", pci)
	if info, statErr := os.Lstat(file); statErr == nil && info.ModTime().Add(coarse).Before(h.Made) {
		return "", nil
	}
	return fmt.Sprintf("a pod of sriov-cni (network namespace %s; if that pod has ended, remove %s)", path, file), nil
}

// SetVFs writes the number of a PF's VFs. The driver may take minutes. The
// kernel refuses any number but 0 while the PF has VFs.
func (k Linux) SetVFs(pf string, n int) error {
	if err := write(filepath.Join(k.Sys.dir(pf), "sriov_numvfs"), strconv.Itoa(n)); err != nil {
		return network.IO.Errorf("set the number of VFs of PF %s to %d: %w; the kernel's log may say more", pf, n, err)
	}
	return nil
}

// SetAutoprobe says whether new VFs of a PF get a driver by themselves.
func (k Linux) SetAutoprobe(pf string, on bool) error {
	word := "0"
	if on {
		word = "1"
	}
	if err := write(filepath.Join(k.Sys.dir(pf), "sriov_drivers_autoprobe"), word); err != nil {
		return network.IO.Errorf("set sriov_drivers_autoprobe of PF %s to %s: %w", pf, word, err)
	}
	return nil
}

// Bind ties a function to a driver and binds that; "" is the kernel's choice.
// One that the driver does not take goes back to what it had.
func (k Linux) Bind(pci, driver string) error {
	had, override := k.Sys.driver(pci), k.Sys.Override(pci)
	err := k.override(pci, driver)
	if err == nil && had != "" {
		err = write(filepath.Join(k.Sys.driverDir(had), "unbind"), pci)
	}
	if err == nil {
		err = k.probe(pci, driver)
	}
	if err == nil {
		return nil
	}
	err = network.IO.Errorf("bind driver %s to %s: %w", orDefault(driver), pci, err)
	if back := k.override(pci, override); back != nil {
		return errors.Join(err, back)
	}
	if k.Sys.driver(pci) == "" && had != "" {
		return errors.Join(err, k.probe(pci, had))
	}
	return err
}

// probe gives a function without a driver one. The driver's own file tells why
// not, where the bus says nothing.
func (k Linux) probe(pci, driver string) error {
	if driver != "" {
		return write(filepath.Join(k.Sys.driverDir(driver), "bind"), pci)
	}
	if err := write(filepath.Join(string(k.Sys), "bus", "pci", "drivers_probe"), pci); err != nil {
		return err
	}
	if k.Sys.driver(pci) == "" {
		return errors.New("no driver takes it: load the one that it needs (modprobe)")
	}
	return nil
}

func (k Linux) override(pci, driver string) error {
	if driver == k.Sys.Override(pci) {
		return nil
	}
	return write(filepath.Join(k.Sys.dir(pci), "driver_override"), driver+"\n")
}

func orDefault(driver string) string {
	if driver == "" {
		return "of the kernel's choice"
	}
	return driver
}
