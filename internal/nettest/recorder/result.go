package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// printResult prints what ADD did, in the configuration's version. A recorder
// that is not first in its chain passes the result before it on.
func (c *call) printResult() error {
	result, err := c.result()
	if err != nil {
		return err
	}
	if err = types.PrintResult(result, c.version()); err != nil {
		return cniError(codeIO, "print result: %v", err)
	}
	c.printed = true
	return nil
}

func (c *call) result() (types.Result, error) {
	if c.conf.PrevResult != nil {
		result, err := create.Create(c.version(), c.conf.PrevResult)
		if err != nil {
			return nil, cniError(codeDecode, "decode prevResult: %v", err)
		}
		return result, nil
	}
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: c.ifname, Sandbox: c.netns}},
	}
	if handle, link, err := c.inside(); err == nil {
		handle.Close()
		result.Interfaces[0].Mac = link.Attrs().HardwareAddr.String()
		result.Interfaces[0].Mtu = link.Attrs().MTU
	}
	address, err := c.lease()
	switch {
	case err == nil:
		result.IPs = []*types100.IPConfig{{Interface: types100.Int(0), Address: *ipNet(address)}}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, cniError(codeIO, "read lease: %v", err)
	}
	return result, nil
}

func (c *call) version() string {
	if c.conf.CNIVersion == "" {
		return "0.1.0"
	}
	return c.conf.CNIVersion
}

// print writes text as the whole answer of the verb.
func (c *call) print(text string) error {
	c.printed = true
	if _, err := os.Stdout.WriteString(text); err != nil {
		return cniError(codeIO, "write stdout: %v", err)
	}
	return nil
}
