package sriov

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pools is stateDir/pools.json.
type pools struct {
	Pools map[string][]string `json:"pools"`
}

func (c Claims) poolsPath() string { return filepath.Join(filepath.Dir(c.Dir), "pools.json") }

// Advertised returns the VFs that device plugins advertise, with their
// resources: those that the agent's own lists (Offers), and those that kubelet
// has of others, from stateDir/pools.json:
//
//	{"pools": {"vendor.com/resource": ["0000:01:10.0", ...]}}
//
// The agent keeps both files. Without them none is advertised.
func (c Claims) Advertised() (map[string]string, error) {
	resources, err := c.advertisedByPools()
	if err != nil {
		return nil, err
	}
	own, err := c.Offers()
	if err != nil {
		return nil, err
	}
	if resources == nil && len(own) > 0 {
		resources = map[string]string{}
	}
	for i := range own {
		resources[own[i].PCI] = own[i].Resource
	}
	return resources, nil
}

func (c Claims) advertisedByPools() (map[string]string, error) {
	path := c.poolsPath()
	raw, err := lockfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var file pools
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		return nil, network.IO.Errorf("%s, which says what VFs a device plugin advertises: %w; it is written anew when the agent starts", path, err)
	}
	resources := map[string]string{}
	for resource, devices := range file.Pools {
		for _, pci := range devices {
			resources[strings.ToLower(pci)] = resource
		}
	}
	return resources, nil
}

// Advertise writes down what device plugins advertise, by resource, for
// Advertised. IDs that are no PCI addresses are other devices'. The file is
// written whole or not at all, mode 0600, and only when it says something new.
func (c Claims) Advertise(resources map[string][]string) error {
	file := pools{Pools: map[string][]string{}}
	for resource, ids := range resources {
		for _, id := range ids {
			if pci, err := NormalPCI("", id); err == nil {
				file.Pools[resource] = append(file.Pools[resource], pci)
			}
		}
		slices.Sort(file.Pools[resource])
		file.Pools[resource] = slices.Compact(file.Pools[resource])
	}
	for resource, devices := range file.Pools {
		if len(devices) == 0 {
			delete(file.Pools, resource)
		}
	}
	raw, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("encode the advertised devices: %w", err)
	}
	path := c.poolsPath()
	old, err := lockfile.Read(path)
	if err == nil && bytes.Equal(old, raw) || errors.Is(err, fs.ErrNotExist) && len(file.Pools) == 0 {
		return nil
	}
	if err = lockfile.ReplaceShared(path, raw, 0o600); err != nil {
		return network.IO.Errorf("write %s: %w", path, err)
	}
	return nil
}
