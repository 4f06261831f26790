package network

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
)

// The annotations that name a pod's networks.
const (
	// NetworksAnnotation lists the networks a pod asks for (NPWG 4.1).
	NetworksAnnotation = "k8s.v1.cni.cncf.io/networks"
	// DefaultNetworkAnnotation replaces the cluster network for one pod.
	DefaultNetworkAnnotation = "v1.multus-cni.io/default-network"
)

// ReplacesCluster reports whether a pod's annotations name another network in
// place of the cluster network.
func ReplacesCluster(annotations map[string]string) bool {
	return strings.TrimSpace(annotations[DefaultNetworkAnnotation]) != ""
}

// Limits on what one pod may ask for, so that an annotation can exhaust
// neither the node nor the runtime's patience.
const (
	maxAnnotation  = 256 << 10 // bytes; the API server's limit for all annotations of an object
	maxAttachments = 64
)

// Selection is one element of the annotation (NPWG 4.1.2).
type Selection struct {
	Name      string // the definition's name
	Namespace string // the definition's namespace; "" = the pod's
	Interface string // the interface's name in the pod; "" = generated

	IPs          []string                   // addresses, each with or without a prefix length
	MAC          string                     // 6 bytes
	CNIArgs      map[string]json.RawMessage // over the definition's args.cni, key by key
	PortMappings []PortMapping
	Bandwidth    *Bandwidth
	DefaultRoute *[]netip.Addr // nil = no key; empty = keep the network's own default route

	InfinibandGUID     string // 8 bytes
	IPAMClaimReference string

	Device *DeviceChoice // nil = none is chosen by DeviceKey; see ChosenDevice

	Warnings []string // about deprecated spellings
}

// PortMapping is one element of portMappings (NPWG 4.1.2.1.7).
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // lower case
	HostIP        string `json:"hostIP,omitempty"`
}

// Bandwidth holds rates in bits per second and bursts in bits (NPWG 4.1.2.1.8).
type Bandwidth struct {
	IngressRate  int64 `json:"ingressRate,omitempty"`
	IngressBurst int64 `json:"ingressBurst,omitempty"`
	EgressRate   int64 `json:"egressRate,omitempty"`
	EgressBurst  int64 `json:"egressBurst,omitempty"`
}

// ParseSelections reads an annotation's value in either form: a JSON list of
// objects, or "[namespace/]name[@interface]" separated by commas (NPWG 4.1.1).
// `key` is the annotation's name, for messages. Errors are of kind Invalid.
func ParseSelections(key, value string) ([]Selection, error) {
	if len(value) > maxAnnotation {
		return nil, Invalid.Errorf("annotation %s: %d bytes, at most %d are read", key, len(value), maxAnnotation)
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return nil, nil
	}
	parse := parseCommaForm
	if value[0] == '[' || value[0] == '{' {
		parse = parseJSONForm
	}
	selections, err := parse(value)
	if err != nil {
		return nil, Invalid.Errorf("annotation %s: %w", key, err)
	}
	if len(selections) > maxAttachments {
		return nil, Invalid.Errorf("annotation %s: %d networks, at most %d can be attached to one pod", key, len(selections), maxAttachments)
	}
	return selections, onlyOneDefaultRoute(key, selections)
}

func onlyOneDefaultRoute(key string, selections []Selection) error {
	first := -1
	for i, s := range selections {
		if s.DefaultRoute == nil {
			continue
		}
		if first >= 0 {
			return Invalid.Errorf("annotation %s: networks %d and %d both have \"default-route\"; one can carry it", key, first+1, i+1)
		}
		first = i
	}
	return nil
}

func parseCommaForm(value string) ([]Selection, error) {
	var out []Selection
	for item := range strings.SplitSeq(value, ",") {
		s, err := parseItem(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// parseItem reads one "[namespace/]name[@interface]".
func parseItem(item string) (Selection, error) {
	var s Selection
	ref, ifname, hasIfname := strings.Cut(item, "@")
	if hasIfname {
		if err := ValidateInterface("interface", ifname); err != nil {
			return s, Invalid.Errorf("%q: %w", clip(item), err)
		}
		s.Interface = ifname
	}
	if namespace, name, ok := strings.Cut(ref, "/"); ok {
		if err := validateCommaName("namespace", namespace); err != nil {
			return s, Invalid.Errorf("%q: %w", clip(item), err)
		}
		s.Namespace, ref = namespace, name
	}
	if err := validateCommaName("name", ref); err != nil {
		return s, Invalid.Errorf("%q: %w; write [namespace/]name[@interface], or the JSON form, whose names may hold dots", clip(item), err)
	}
	s.Name = ref
	return s, nil
}

// validMAC reports whether s is a hardware address of n bytes.
func validMAC(s string, n int) bool {
	mac, err := net.ParseMAC(s)
	return err == nil && len(mac) == n
}
