package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// Attachment is one network of one pod, ready to be run: all that ADD used,
// so that CHECK and DEL can replay it (CNI 1.1 section 3: the configuration
// does not change between add and delete). The journal keeps it as JSON.
type Attachment struct {
	List
	// Reference is the network as the pod's author knows it: namespace/name,
	// or the CNI name of the cluster network.
	Reference string `json:"reference"`
	// Source is the file or object that the configuration came from.
	Source string `json:"source"`
	IfName string `json:"ifname"`
	// Cluster marks the cluster's own network, the first of every pod.
	Cluster bool `json:"cluster,omitempty"`

	Args           [][2]string                `json:"args,omitempty"`           // CNI_ARGS
	CapabilityArgs map[string]json.RawMessage `json:"capabilityArgs,omitempty"` // by capability

	// DefaultRoute is the selection's default-route: nil without the key,
	// empty to keep the network's own (NPWG 4.1.2.1.9).
	DefaultRoute *[]netip.Addr `json:"defaultRoute,omitempty"`

	Resource string `json:"resource,omitempty"` // the definition's resourceName
	DeviceID string `json:"deviceID,omitempty"` // the device of it that the attachment got
	// DeviceInfoFile is where the network's plugins leave their device
	// information (device-info-spec 1.1.0), "" where there is none.
	DeviceInfoFile string `json:"deviceInfoFile,omitempty"`
}

// String names the attachment in messages: the network and the interface.
func (a *Attachment) String() string {
	if a.Cluster {
		return fmt.Sprintf("cluster network %q (%s)", a.Name, a.IfName)
	}
	return fmt.Sprintf("network %q (%s)", a.Reference, a.IfName)
}

// GenerateNames gives net1, net2, ... to the selections that asked for no
// name: each its position in the list, moved on past every name that is
// asked for anywhere in the list or in use already. Errors are Invalid: a
// name that is asked for twice, or is in use.
func GenerateNames(asked []string, inUse []string) ([]string, error) {
	for i, name := range asked {
		if name != "" && (slices.Contains(inUse, name) || slices.Contains(asked[:i], name)) {
			return nil, Invalid.Errorf("interface %q is asked for by network %d of the pod, but the pod has it already; choose another name", name, i+1)
		}
	}
	taken := slices.Concat(asked, inUse)
	names := make([]string, len(asked))
	for i, name := range asked {
		for n := i + 1; name == ""; n++ {
			if candidate := fmt.Sprintf("net%d", n); !slices.Contains(taken, candidate) {
				name = candidate
			}
		}
		names[i] = name
		taken = append(taken, name)
	}
	return names, nil
}

// Isolation says whose definitions a pod may name.
type Isolation struct {
	On     bool
	Global []string // namespaces whose definitions every pod may name
}

// Allows reports whether a pod of podNamespace may use a definition of
// namespace.
func (i Isolation) Allows(podNamespace, namespace string) bool {
	return !i.On || namespace == podNamespace || slices.Contains(i.Global, namespace)
}
