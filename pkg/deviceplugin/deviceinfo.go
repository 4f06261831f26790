package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// ofDevices is where device plugins tell about each device, below
// DeviceInfoDir (device-info-spec 1.1.0 section 4.1).
const ofDevices = "dp"

// deviceInfoName is the name of a device's file (section 4.1).
func deviceInfoName(resource, pci string) string {
	return strings.ReplaceAll(resource+"-"+pci, "/", "-") + "-device.json"
}

// deviceInfo is what the file says (section 3).
type deviceInfo struct {
	Type    string  `json:"type"`
	Version string  `json:"version"`
	PCI     pciInfo `json:"pci"`
}

type pciInfo struct {
	PCIAddress  string `json:"pci-address"`
	PFAddress   string `json:"pf-pci-address,omitempty"`
	VhostNet    string `json:"vhost-net,omitempty"`
	RDMADevice  string `json:"rdma-device,omitempty"`
	Representor string `json:"representor-device,omitempty"`
}

// tell returns what the file of a listed device says.
func tell(i *item, representor string) ([]byte, error) {
	info := deviceInfo{Type: "pci", Version: "1.1.0", PCI: pciInfo{
		PCIAddress: i.PCI, RDMADevice: strings.Join(i.RDMA, ","), Representor: representor,
	}}
	if i.PF != i.PCI {
		info.PCI.PFAddress = i.PF
	}
	if i.selector != nil && i.selector.VhostNet {
		info.PCI.VhostNet = vhostNet
	}
	raw, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode the device information of %s: %w", i.PCI, err)
	}
	return raw, nil
}

// tellAll writes the files of listed devices: kubelet does not ask again for
// what a pod has when this agent, kubelet or the node starts anew. What is said
// of a device in a pod stays: less of it can be seen now.
func (m *Manager) tellAll(items map[string]*item, held func(pci string) bool) error {
	if m.DeviceInfoDir == "" || len(items) == 0 {
		return nil
	}
	m.files.Lock()
	defer m.files.Unlock()
	dir, err := openShared(m.DeviceInfoDir, ofDevices)
	if err != nil {
		return fmt.Errorf("device information: %w", err)
	}
	defer dir.Close()
	var failed []error
	representors := map[string]map[int]string{}
	for _, pci := range sortedKeys(items) {
		i := items[pci]
		name := deviceInfoName(i.Resource, pci)
		if held(pci) || i.function == nil {
			if old, readErr := dir.read(name); readErr == nil && old != nil {
				continue
			}
		}
		failed = append(failed, m.tellOne(dir, i, representors))
	}
	return errors.Join(failed...)
}

func (m *Manager) tellOne(dir *shared, i *item, representors map[string]map[int]string) error {
	representor := ""
	if f := i.function; f != nil && f.Index >= 0 {
		if representors[i.PF] == nil {
			representors[i.PF] = m.Sys.Representors(i.PF)
		}
		representor = representors[i.PF][f.Index]
	}
	raw, err := tell(i, representor)
	if err != nil {
		return err
	}
	return dir.write(deviceInfoName(i.Resource, i.PCI), raw)
}

// untell removes the files of devices that are listed no more.
func (m *Manager) untell(gone []sriov.Offer) error {
	if m.DeviceInfoDir == "" || len(gone) == 0 {
		return nil
	}
	m.files.Lock()
	defer m.files.Unlock()
	dir, err := openShared(m.DeviceInfoDir, ofDevices)
	if err != nil {
		return fmt.Errorf("device information: %w", err)
	}
	defer dir.Close()
	var failed []error
	for i := range gone {
		failed = append(failed, dir.remove(deviceInfoName(gone[i].Resource, gone[i].PCI)))
	}
	return errors.Join(failed...)
}
