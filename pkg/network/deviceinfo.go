package network

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// MaxDeviceInfo bounds a device's information, in bytes.
const MaxDeviceInfo = 64 << 10

// maxDeviceDepth bounds how many objects and lists a device's information
// holds: decoders refuse what is nested too deeply, and it ends up inside of
// a journal's line and of a pod's annotation.
const maxDeviceDepth = 1000

// deviceInfo is what clients of the annotation decode (device-info-spec 1.1.0
// section 3). More keys are nobody's harm.
type deviceInfo struct {
	Type      string      `json:"type"`
	Version   string      `json:"version"`
	PCI       *deviceKeys `json:"pci"`
	VDPA      *deviceKeys `json:"vdpa"`
	VhostUser *deviceKeys `json:"vhost-user"`
	Memif     *deviceKeys `json:"memif"`
}

// deviceKeys are the keys of all types of devices together.
type deviceKeys struct {
	PCIAddress   string `json:"pci-address"`
	PFAddress    string `json:"pf-pci-address"`
	VhostNet     string `json:"vhost-net"`
	RDMADevice   string `json:"rdma-device"`
	Representor  string `json:"representor-device"`
	ParentDevice string `json:"parent-device"`
	Driver       string `json:"driver"`
	Path         string `json:"path"`
	Mode         string `json:"mode"`
	Role         string `json:"role"`
}

// CheckDeviceInfo reports whether a device's information can be shown on a
// pod. Clients decode the annotation as a whole: one key of a wrong type
// would hide all the pod's networks from them.
func CheckDeviceInfo(source string, raw []byte) error {
	switch {
	case len(raw) > MaxDeviceInfo:
		return Invalid.Errorf("%s: more than %d bytes", source, MaxDeviceInfo)
	case isNull(raw):
		return Malformed.Errorf("%s: is empty or null, want device information (a JSON object)", source)
	case !utf8.Valid(raw):
		return Malformed.Errorf("%s: is no text in UTF-8", source)
	case bytes.Count(raw, []byte("{"))+bytes.Count(raw, []byte("[")) > maxDeviceDepth:
		return Invalid.Errorf("%s: more than %d objects and lists", source, maxDeviceDepth)
	}
	var info deviceInfo
	if err := json.Unmarshal(raw, &info); err != nil {
		return decodeError(source, err)
	}
	return nil
}
