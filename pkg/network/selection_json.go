package network

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// jsonSelection is one element of the JSON form, as NPWG 4.1.2 writes it.
type jsonSelection struct {
	Name               *string                    `json:"name"`
	Namespace          string                     `json:"namespace"`
	Interface          string                     `json:"interface"`
	InterfaceRequest   string                     `json:"interfaceRequest"`
	IPs                *[]string                  `json:"ips"`
	MAC                string                     `json:"mac"`
	CNIArgs            map[string]json.RawMessage `json:"cni-args"`
	PortMappings       *[]PortMapping             `json:"portMappings"`
	Bandwidth          *jsonBandwidth             `json:"bandwidth"`
	DefaultRoute       *[]string                  `json:"default-route"`
	InfinibandGUID     string                     `json:"infiniband-guid"`
	IPAMClaimReference string                     `json:"ipam-claim-reference"`
}

type jsonBandwidth struct {
	IngressRate  *int64 `json:"ingressRate"`
	IngressBurst *int64 `json:"ingressBurst"`
	EgressRate   *int64 `json:"egressRate"`
	EgressBurst  *int64 `json:"egressBurst"`
}

// parseJSONForm reads the list of objects. A single object, which some
// default-network annotations hold, counts as a list of one.
func parseJSONForm(value string) ([]Selection, error) {
	var elements []json.RawMessage
	if value[0] == '{' {
		elements = []json.RawMessage{json.RawMessage(value)}
	} else if err := json.Unmarshal([]byte(value), &elements); err != nil {
		return nil, decodeError("JSON form", err)
	}
	out := make([]Selection, 0, len(elements))
	for i, raw := range elements {
		s, err := parseElement(raw)
		if err != nil {
			return nil, Invalid.Errorf("network %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func parseElement(raw json.RawMessage) (Selection, error) {
	var in jsonSelection
	if err := json.Unmarshal(raw, &in); err != nil {
		return Selection{}, decodeError("network selection", err)
	}
	if err := onlyKnownKeys(raw); err != nil {
		return Selection{}, err
	}
	if in.Name == nil || *in.Name == "" {
		return Selection{}, errors.New(`"name" is missing; it names the network`)
	}
	s := Selection{
		Name: *in.Name, Namespace: in.Namespace, Interface: in.Interface, MAC: in.MAC, CNIArgs: in.CNIArgs,
		InfinibandGUID: in.InfinibandGUID, IPAMClaimReference: in.IPAMClaimReference,
	}
	if in.InterfaceRequest != "" {
		s.Warnings = append(s.Warnings, `"interfaceRequest" is deprecated, write "interface"`)
		s.Interface = or(s.Interface, in.InterfaceRequest)
	}
	for _, err := range []error{
		s.readNames(), s.readAddresses(&in), s.readPorts(in.PortMappings), s.readBandwidth(in.Bandwidth), s.readDefaultRoute(in.DefaultRoute), s.readDevice(raw),
	} {
		if err != nil {
			return Selection{}, err
		}
	}
	return s, nil
}

// onlyKnownKeys refuses misspelt keys. Keys without a dot are the
// standard's own, keys with one are somebody's extension (NPWG 4.1.2.1).
func onlyKnownKeys(raw json.RawMessage) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return decodeError("network selection", err)
	}
	if keys == nil {
		return errors.New("is null, want an object")
	}
	known := tagNames(jsonSelection{})
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !known[key] && !strings.Contains(key, ".") {
			return Invalid.Errorf("key %q is not one of the standard's (%s); an own key needs a reverse-DNS name",
				clip(key), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return nil
}

func (s *Selection) readNames() error {
	if err := validateKubeName("name", s.Name); err != nil {
		return err
	}
	if s.Namespace != "" {
		if err := validateKubeName("namespace", s.Namespace); err != nil {
			return err
		}
	}
	if s.Interface != "" {
		if err := ValidateInterface("interface", s.Interface); err != nil {
			return err
		}
	}
	return nil
}

func (s *Selection) readAddresses(in *jsonSelection) error {
	if in.IPs != nil {
		if len(*in.IPs) == 0 {
			return errors.New(`"ips" is empty; leave the key out or list addresses`)
		}
		for _, ip := range *in.IPs {
			if !validIP(ip) {
				return Invalid.Errorf(`"ips": %q is no IPv4 or IPv6 address, with or without a prefix length`, clip(ip))
			}
		}
		s.IPs = *in.IPs
	}
	if s.MAC != "" && !validMAC(s.MAC, 6) {
		return Invalid.Errorf(`"mac" %q: want 6 bytes such as 02:00:00:00:00:01`, clip(s.MAC))
	}
	if s.InfinibandGUID != "" && !validMAC(s.InfinibandGUID, 8) {
		return Invalid.Errorf(`"infiniband-guid" %q: want 8 bytes such as c2:11:22:33:44:55:66:77`, clip(s.InfinibandGUID))
	}
	if s.IPAMClaimReference != "" && s.IPs != nil {
		return errors.New(`"ipam-claim-reference" and "ips" exclude each other: the claim holds the addresses`)
	}
	return nil
}

func validIP(s string) bool {
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Zone() == ""
}

func (s *Selection) readPorts(mappings *[]PortMapping) error {
	if mappings == nil {
		return nil
	}
	if len(*mappings) == 0 {
		return errors.New(`"portMappings" is empty; leave the key out or list mappings`)
	}
	for i, m := range *mappings {
		if m.HostPort < 1 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
			return Invalid.Errorf(`"portMappings" element %d: hostPort %d and containerPort %d must both be 1 to 65535`, i, m.HostPort, m.ContainerPort)
		}
		m.Protocol = strings.ToLower(or(m.Protocol, "tcp"))
		if err := oneOf("portMappings protocol", m.Protocol, "tcp", "udp", "sctp"); err != nil {
			return err
		}
		if _, err := netip.ParseAddr(m.HostIP); m.HostIP != "" && err != nil {
			return Invalid.Errorf(`"portMappings" element %d: hostIP %q is no address`, i, clip(m.HostIP))
		}
		s.PortMappings = append(s.PortMappings, m)
	}
	return nil
}

// readBandwidth checks the rates and gives a rate without a burst the
// largest burst, as kubelet does: the reference plugin refuses one alone.
func (s *Selection) readBandwidth(in *jsonBandwidth) error {
	if in == nil {
		return nil
	}
	b := &Bandwidth{}
	for _, f := range []struct {
		name        string
		rate, burst *int64
		toRate      *int64
		toBurst     *int64
	}{
		{"ingress", in.IngressRate, in.IngressBurst, &b.IngressRate, &b.IngressBurst},
		{"egress", in.EgressRate, in.EgressBurst, &b.EgressRate, &b.EgressBurst},
	} {
		if (f.rate != nil && *f.rate <= 0) || (f.burst != nil && *f.burst <= 0) {
			return Invalid.Errorf(`"bandwidth": %sRate and %sBurst must be above zero where given`, f.name, f.name)
		}
		if f.burst != nil && f.rate == nil {
			return Invalid.Errorf(`"bandwidth": %sBurst needs %sRate`, f.name, f.name)
		}
		if f.rate == nil {
			continue
		}
		*f.toRate, *f.toBurst = *f.rate, math.MaxInt32
		if f.burst != nil {
			*f.toBurst = *f.burst
		}
	}
	if *b == (Bandwidth{}) {
		return errors.New(`"bandwidth" is empty; give ingressRate or egressRate in bits per second`)
	}
	s.Bandwidth = b
	return nil
}

func (s *Selection) readDefaultRoute(gateways *[]string) error {
	if gateways == nil {
		return nil
	}
	list := []netip.Addr{}
	for _, g := range *gateways {
		addr, err := netip.ParseAddr(g)
		if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() || addr.Is4In6() || addr.Zone() != "" {
			return Invalid.Errorf(`"default-route": %q is no gateway address`, clip(g))
		}
		list = append(list, addr)
	}
	s.DefaultRoute = &list
	return nil
}
