package network

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// DeviceKey is the selection's key that chooses the device of a network, an
// extension of ours (NPWG 4.1.2.1: own keys have reverse-DNS names).
const DeviceKey = "io.github.multiplexer-cni/device"

// DeviceChoice names the device that a network is to get: one of a
// container's, or exactly one, or, with both, exactly one of a container's.
type DeviceChoice struct {
	Container string `json:"container,omitempty"`
	ID        string `json:"id,omitempty"`
}

// The keys that carry a device to a plugin: sriov reads the first,
// host-device and others the second.
const (
	deviceIDKey = "deviceID"
	pciBusIDKey = "pciBusID"
)

// carriesDevice reports whether a plugin may read a key as a device: Go's
// decoder takes a key in any case.
func carriesDevice(key string) bool {
	return strings.EqualFold(key, deviceIDKey) || strings.EqualFold(key, pciBusIDKey)
}

// maxDeviceID bounds what a pod's author may write, for messages' sake.
const maxDeviceID = 253

// readDevice reads DeviceKey of one element of the JSON form.
func (s *Selection) readDevice(element json.RawMessage) error {
	keys, err := decodeObject(element)
	if err != nil {
		return err
	}
	raw, chosen := keys[DeviceKey]
	if !chosen {
		return nil
	}
	var values map[string]any
	if json.Unmarshal(raw, &values) != nil || len(values) == 0 {
		return Invalid.Errorf(`%q: want an object with "container" (a name), "id" (a device) or both`, DeviceKey)
	}
	var choice DeviceChoice
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value, text := values[key].(string)
		switch {
		case key != "container" && key != "id":
			return Invalid.Errorf(`%q: key %q is not known; write "container" or "id"`, DeviceKey, clip(key))
		case !text || value == "":
			return Invalid.Errorf(`%q: %q is no text or empty; want a string, or leave the key out`, DeviceKey, key)
		case key == "container":
			choice.Container, err = value, validateCommaName("container", value)
		default:
			choice.ID, err = value, validateDeviceID("id", value)
		}
		if err != nil {
			return Invalid.Errorf("%q: %w", DeviceKey, err)
		}
	}
	s.Device = &choice
	return nil
}

func validateDeviceID(field, id string) error {
	if len(id) > maxDeviceID {
		return Invalid.Errorf("%s %q: %d characters, a device's ID has at most %d", field, clip(id), len(id), maxDeviceID)
	}
	return nil
}

// ChosenDevice returns the device that the pod's author chose for the
// network, by DeviceKey or by a device in cni-args, which a plugin could
// read: it has to be one of the pod's own, whichever way it is written.
// Errors are Invalid: what is no string, or contradicts itself.
func (s *Selection) ChosenDevice() (DeviceChoice, bool, error) {
	var choice DeviceChoice
	by := DeviceKey
	if s.Device != nil {
		choice = *s.Device
	}
	for _, key := range slices.Sorted(maps.Keys(s.CNIArgs)) {
		if !carriesDevice(key) {
			continue
		}
		var id *string
		if json.Unmarshal(s.CNIArgs[key], &id) != nil || id == nil || *id == "" {
			return DeviceChoice{}, false, Invalid.Errorf(`"cni-args": %q names a device and must be a string that is not empty`, clip(key))
		}
		if err := validateDeviceID(`"cni-args": `+key, *id); err != nil {
			return DeviceChoice{}, false, err
		}
		if choice.ID != "" && choice.ID != *id {
			return DeviceChoice{}, false, Invalid.Errorf("the network asks for two devices: %q by %q, %q by %q of \"cni-args\"; keep one of them", choice.ID, by, *id, key)
		}
		choice.ID, by = *id, key
	}
	return choice, choice != DeviceChoice{}, nil
}

// SetDevice writes a device into every plugin's object, under both names
// that plugins know, in place of what is there. A definition may serve
// several attachments: the objects are the list's own afterwards.
func (l *List) SetDevice(source, id string) error {
	plugins := slices.Clone(l.Plugins)
	for i, raw := range plugins {
		plugin, err := decodeObject(raw)
		if err != nil {
			return Invalid.Errorf("%s: plugins[%d]: %w", source, i, err)
		}
		maps.DeleteFunc(plugin, func(key string, _ json.RawMessage) bool { return carriesDevice(key) })
		plugin[deviceIDKey], plugin[pciBusIDKey] = encode(id), encode(id)
		plugins[i] = encode(plugin)
	}
	l.Plugins = plugins
	return nil
}

// SetDevice gives the attachment a device of a resource: in its plugins'
// objects, and for the plugins that declare the capability deviceID.
func (a *Attachment) SetDevice(resource, id string) error {
	if err := a.List.SetDevice(a.Source, id); err != nil {
		return err
	}
	// The map may be another attachment's too.
	args := maps.Clone(a.CapabilityArgs)
	if args == nil {
		args = map[string]json.RawMessage{}
	}
	args[deviceIDKey] = encode(id)
	a.CapabilityArgs, a.Resource, a.DeviceID = args, resource, id
	return nil
}
