package main

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A lease is a file DIR/leases/NETWORK/CONTAINERID-IFNAME that holds the
// address. An address is given once per DIR, whatever the network.

func (c *call) leaseKey() string { return c.containerID + "-" + c.ifname }

func (c *call) leasePath() string {
	return filepath.Join(c.conf.Dir, "leases", c.conf.Name, c.leaseKey())
}

// lease returns the address of this container and interface.
func (c *call) lease() (netip.Prefix, error) {
	content, err := os.ReadFile(c.leasePath())
	if err != nil {
		return netip.Prefix{}, err
	}
	addr, err := netip.ParseAddr(string(content))
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, c.conf.Subnet.Bits()), nil
}

// allocate takes the next free address. A container and interface that have
// one already fail: a second ADD without a DEL is the caller's mistake.
func (c *call) allocate() error {
	return c.locked(func() error {
		if _, err := os.Lstat(c.leasePath()); err == nil {
			return cniError(codeExists, "lease %s of network %s exists already", c.leaseKey(), c.conf.Name)
		}
		addr, err := c.nextFree()
		if err != nil {
			return err
		}
		if err = os.MkdirAll(filepath.Dir(c.leasePath()), 0o755); err != nil {
			return cniError(codeIO, "make leases: %v", err)
		}
		if err = os.WriteFile(c.leasePath(), []byte(addr.String()), 0o644); err != nil {
			return cniError(codeIO, "write lease: %v", err)
		}
		return nil
	})
}

// nextFree finds the lowest address that no lease in DIR holds. The network's
// own address and the first, usually a gateway, are never given.
func (c *call) nextFree() (netip.Addr, error) {
	paths, err := filepath.Glob(filepath.Join(c.conf.Dir, "leases", "*", "*"))
	if err != nil {
		return netip.Addr{}, cniError(codeIO, "list leases: %v", err)
	}
	taken := map[string]bool{}
	for _, path := range paths {
		content, readErr := os.ReadFile(path)
		if readErr != nil {
			return netip.Addr{}, cniError(codeIO, "read lease: %v", readErr)
		}
		taken[string(content)] = true
	}
	subnet := c.conf.Subnet.Masked()
	for addr := subnet.Addr().Next().Next(); subnet.Contains(addr.Next()); addr = addr.Next() {
		if !taken[addr.String()] {
			return addr, nil
		}
	}
	return netip.Addr{}, cniError(codeIO, "no free address in %s", subnet)
}

// free gives the lease back. None is fine.
func (c *call) free() error {
	return c.locked(func() error {
		if err := os.Remove(c.leasePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cniError(codeIO, "remove lease: %v", err)
		}
		return nil
	})
}

// collect frees the leases and links of this network that no valid attachment
// holds.
func (c *call) collect() error {
	valid := map[string]bool{}
	for _, a := range c.conf.Valid {
		valid[a.ContainerID+"-"+a.IfName] = true
	}
	return c.locked(func() error {
		dir := filepath.Join(c.conf.Dir, "leases", c.conf.Name)
		leases, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cniError(codeIO, "list leases: %v", err)
		}
		for _, lease := range leases {
			if valid[lease.Name()] {
				continue
			}
			if err = removeHostLink(lease.Name()); err != nil {
				return err
			}
			if err = os.Remove(filepath.Join(dir, lease.Name())); err != nil {
				return cniError(codeIO, "remove lease: %v", err)
			}
		}
		return nil
	})
}

// locked runs f while no other recorder of this DIR changes leases.
func (c *call) locked(f func() error) error {
	file, err := os.OpenFile(filepath.Join(c.conf.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return cniError(codeIO, "open lock: %v", err)
	}
	defer func() { _ = file.Close() }()
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return cniError(codeIO, "lock: %v", err)
	}
	return f()
}
