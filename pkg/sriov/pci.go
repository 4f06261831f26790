package sriov

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Rebind implements Kernel. A device without a driver gets the one that
// `driver` names.
func (k Linux) Rebind(pci, driver string) error {
	bus := filepath.Join(string(k.Sys), "bus", "pci", "drivers", driver)
	if k.Sys.driver(pci) == driver {
		if err := write(filepath.Join(bus, "unbind"), pci); err != nil {
			return network.IO.Errorf("take driver %s off %s: %w", driver, pci, err)
		}
	}
	if err := write(filepath.Join(bus, "bind"), pci); err != nil {
		return network.IO.Errorf("bind driver %s to %s: %w", driver, pci, err)
	}
	return nil
}

func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// fillPCI finds the PCI address of devices where the kernel does not report
// it in the link itself (before 5.14), by way of ethtool.
func (n *kernelNetns) fillPCI(links []Link) {
	for _, link := range links {
		if link.PCI != "" {
			return // this kernel does
		}
	}
	// What cannot be asked is no PCI device.
	_ = podns.Within(n.path, func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		defer unix.Close(socket)
		for i := range links {
			info, askErr := unix.IoctlGetEthtoolDrvinfo(socket, links[i].Name)
			if askErr != nil {
				continue
			}
			address := unix.ByteSliceToString(info.Bus_info[:])
			if _, askErr = NormalPCI("", address); askErr == nil {
				links[i].PCI = address
			}
		}
		return nil
	})
}
