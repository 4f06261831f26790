package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const (
	sys        = sriov.Sysfs("/sys")
	devices    = "/sys/bus/pci/devices"
	bootID     = "/proc/sys/kernel/random/boot_id"
	cniVersion = "1.0.0"
	ifname     = "net1"
	mtu        = 1400
	vfs        = 7 // as many as the card has: the PF's answers are of full length
)

// settings are keys of a network's configuration.
type settings = map[string]any

// machine is the guest: a node, a pod, a PF, and the VF that goes to and fro.
type machine struct {
	dir  string // on tmpfs, with all programs in it: the guest's root is slow
	node *nettest.Node
	pod  *nettest.NS
	pf   *sriov.PF
	link netlink.Link // of the PF
	vf   vf
}

// vf is the VF as it is on the node.
type vf struct {
	pci, name string
	index     int // in the PF
	mtu       int
}

func newMachine() (_ *machine, err error) {
	m := &machine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.dir, err = os.MkdirTemp("/run", "sriovbench-"); err != nil {
		return nil, err
	}
	if err = m.copyPrograms(); err != nil {
		return nil, err
	}
	if m.node, err = nettest.OwnNode(); err != nil {
		return nil, err
	}
	if m.pod, err = nettest.NewNS("pod-"); err != nil {
		return nil, err
	}
	return m, m.makeVFs(guest.PFs()[0])
}

func (m *machine) close() error {
	var err error
	if m.pod != nil {
		err = m.pod.Close()
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}

// in is a path in the machine's directory.
func (m *machine) in(name string) string { return filepath.Join(m.dir, name) }

// copyPrograms puts multiplexer into bin, the reference plugins that are run
// into plugins, and sriov as an executable into executable.
func (m *machine) copyPrograms() error {
	multiplexer, err := nettest.BinaryPath()
	if err != nil {
		return err
	}
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return err
	}
	for to, from := range map[string]string{
		"bin/multiplexer": multiplexer, "executable/sriov": os.Getenv(envPlugin),
		"plugins/loopback": filepath.Join(plugins, "loopback"), "plugins/host-local": filepath.Join(plugins, "host-local"),
	} {
		content, readErr := os.ReadFile(from)
		if readErr != nil {
			return fmt.Errorf("copy a program: %w", readErr)
		}
		if err = os.MkdirAll(filepath.Dir(m.in(to)), 0o755); err == nil {
			err = os.WriteFile(m.in(to), content, 0o755)
		}
		if err != nil {
			return fmt.Errorf("copy a program: %w", err)
		}
	}
	return nil
}

// makeVFs makes the PF's VFs and waits for their network devices.
func (m *machine) makeVFs(pci string) (err error) {
	if m.pf, err = sys.PF(pci); err != nil {
		return err
	}
	if m.link, err = netlink.LinkByName(m.pf.Name); err != nil {
		return fmt.Errorf("find PF %s: %w", m.pf.Name, err)
	}
	// First of all: the driver of the VFs takes their addresses from a PF that is up.
	if err = netlink.LinkSetUp(m.link); err != nil {
		return fmt.Errorf("take PF %s up: %w", m.pf.Name, err)
	}
	if err = os.WriteFile(filepath.Join(devices, pci, "sriov_numvfs"), fmt.Append(nil, vfs), 0); err != nil {
		return fmt.Errorf("make VFs: %w", err)
	}
	if m.pf, err = sys.PF(pci); err != nil {
		return err
	}
	for i, one := range m.pf.VFs {
		name, waitErr := netdev(one)
		if waitErr != nil {
			return waitErr
		}
		m.vf = vf{pci: one, name: name, index: i}
	}
	link, err := netlink.LinkByName(m.vf.name)
	if err != nil {
		return fmt.Errorf("find VF %s: %w", m.vf.pci, err)
	}
	m.vf.mtu = link.Attrs().MTU
	return nil
}

// netdev returns the name of a VF's network device, which takes a moment.
func netdev(pci string) (string, error) {
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join(devices, pci, "net"))
		if err == nil && len(entries) == 1 {
			return entries[0].Name(), nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("VF %s has no network device: %v, %w", pci, entries, err)
		}
	}
}

// network is the configuration of a network with the VF in it.
func (m *machine) network(name string, more settings) ([]byte, error) {
	conf := settings{
		"type": "sriov", "deviceID": m.vf.pci, "mtu": mtu, "announce": false,
		// For the executable; in multiplexer's process it is the node's.
		"bench.stateDir": m.in("state"),
		"ipam": settings{
			"type": "host-local", "dataDir": m.in("leases"), "ranges": []any{[]any{settings{"subnet": "10.56.1.0/24"}}},
			"routes": []any{settings{"dst": "10.57.0.0/16"}},
		},
	}
	for key, value := range more {
		conf[key] = value
	}
	return json.Marshal(settings{"cniVersion": cniVersion, "name": name, "plugins": []any{conf}})
}
