package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	cdi "tags.cncf.io/container-device-interface/specs-go"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// permissions are what a container may do with a device file: read and write
// it, and not make another.
const permissions = "rw"

// cdiPrefix begins the names of our files.
const cdiPrefix = "multiplexer_"

// cdiKind is the kind of a resource's devices. CDI's kinds begin with a letter,
// resources may begin with a digit.
func cdiKind(resource string) (string, error) {
	vendor, name, _ := strings.Cut(resource, "/")
	if vendor == "" || vendor[0] < 'a' || vendor[0] > 'z' {
		return "", network.Invalid.Errorf("resource %s: CDI wants a resourcePrefix that begins with a letter: its device files are given without CDI; choose another prefix", resource)
	}
	return vendor + "/net-" + name, nil
}

func cdiFile(resource string) string {
	return cdiPrefix + strings.ReplaceAll(resource, "/", "_") + ".json"
}

// cdiDevice is a device in a spec; nil for one that needs no device file,
// which CDI has no word for.
func cdiDevice(pci string, nodes []node) *cdi.Device {
	if len(nodes) == 0 {
		return nil
	}
	d := &cdi.Device{Name: pci}
	for i := range nodes {
		d.ContainerEdits.DeviceNodes = append(d.ContainerEdits.DeviceNodes,
			&cdi.DeviceNode{Path: nodes[i].Container, HostPath: nodes[i].Host, Permissions: permissions})
	}
	return d
}

// readSpec returns the devices in a resource's file. One that cannot be
// decoded is written anew.
func readSpec(dir *shared, resource string) (map[string]*cdi.Device, error) {
	raw, err := dir.read(cdiFile(resource))
	if err != nil {
		return nil, err
	}
	devices := map[string]*cdi.Device{}
	var spec cdi.Spec
	if json.Unmarshal(raw, &spec) != nil {
		return devices, nil
	}
	for i := range spec.Devices {
		devices[spec.Devices[i].Name] = &spec.Devices[i]
	}
	return devices, nil
}

// writeSpec writes a resource's file, and removes one without devices.
func writeSpec(dir *shared, resource string, devices map[string]*cdi.Device) error {
	if len(devices) == 0 {
		return dir.remove(cdiFile(resource))
	}
	kind, err := cdiKind(resource)
	if err != nil {
		return err
	}
	spec := &cdi.Spec{Kind: kind}
	for _, name := range sortedKeys(devices) {
		spec.Devices = append(spec.Devices, *devices[name])
	}
	if spec.Version, err = cdi.MinimumRequiredVersion(spec); err != nil {
		return fmt.Errorf("CDI spec of %s: %w", resource, err)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode the CDI spec of %s: %w", resource, err)
	}
	return dir.write(cdiFile(resource), raw)
}

// specify writes the CDI specs of all listed devices, and removes those of
// resources that are gone. What a pod has keeps the device files that it was
// given.
func (m *Manager) specify(items map[string]*item, held func(pci string) bool) error {
	if m.CDIDir == "" {
		return nil
	}
	m.files.Lock()
	defer m.files.Unlock()
	dir, err := openShared(m.CDIDir, "")
	if err != nil {
		return fmt.Errorf("CDI specs: %w", err)
	}
	defer dir.Close()
	byResource := map[string][]*item{}
	for _, i := range items {
		byResource[i.Resource] = append(byResource[i.Resource], i)
	}
	var failed []error
	for resource, its := range byResource {
		_, err = cdiKind(resource)
		m.notices.check(m.Log, "CDI of "+resource, "a resource does not go by CDI", err)
		if err != nil {
			continue // Allocate gives the device files itself
		}
		old, readErr := readSpec(dir, resource)
		if readErr != nil {
			failed = append(failed, readErr)
			continue
		}
		devices := map[string]*cdi.Device{}
		for _, i := range its {
			if d := m.specOf(i, old[i.PCI], held(i.PCI)); d != nil {
				devices[i.PCI] = d
			}
		}
		failed = append(failed, writeSpec(dir, resource, devices))
	}
	return errors.Join(append(failed, dropSpecs(dir, byResource))...)
}

// specOf returns a device as its spec is to have it.
func (m *Manager) specOf(i *item, old *cdi.Device, held bool) *cdi.Device {
	if held && old != nil || i.function == nil || i.selector == nil {
		return old
	}
	nodes, err := nodesOf(m.Sys, i.function, i.selector)
	if err != nil {
		return old // Allocate says what is wrong, if it lasts
	}
	return cdiDevice(i.PCI, nodes)
}

// dropSpecs removes our files of resources that list nothing.
func dropSpecs(dir *shared, listed map[string][]*item) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return network.IO.Errorf("read %s: %w", dir.Name(), err)
	}
	var wanted []string
	for resource := range listed {
		wanted = append(wanted, cdiFile(resource))
	}
	var failed []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), cdiPrefix) && !slices.Contains(wanted, entry.Name()) {
			failed = append(failed, dir.remove(entry.Name()))
		}
	}
	return errors.Join(failed...)
}

// specifyThese adds devices that are being allocated to a resource's spec, and
// returns their names.
func (m *Manager) specifyThese(resource string, devices []given) ([]string, error) {
	kind, err := cdiKind(resource)
	if err != nil {
		return nil, err
	}
	m.files.Lock()
	defer m.files.Unlock()
	dir, err := openShared(m.CDIDir, "")
	if err != nil {
		return nil, fmt.Errorf("CDI specs: %w", err)
	}
	defer dir.Close()
	all, err := readSpec(dir, resource)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range devices {
		delete(all, devices[i].pci)
		if d := cdiDevice(devices[i].pci, devices[i].nodes); d != nil {
			all[d.Name] = d
			names = append(names, kind+"="+d.Name)
		}
	}
	return names, writeSpec(dir, resource, all)
}
