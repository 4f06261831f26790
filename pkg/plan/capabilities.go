package plan

import (
	"encoding/json"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// setCapabilities turns a selection's keys into capability arguments. Each
// needs a plugin of the network that declares it (NPWG 4.1.2.1.4 to .10).
func setCapabilities(a *network.Attachment, s network.Selection) error {
	for _, c := range []struct {
		key, capability string
		set             bool
		value           any
	}{
		{"ips", "ips", s.IPs != nil, s.IPs},
		{"mac", "mac", s.MAC != "", s.MAC},
		{"portMappings", "portMappings", s.PortMappings != nil, s.PortMappings},
		{"bandwidth", "bandwidth", s.Bandwidth != nil, s.Bandwidth},
		{"infiniband-guid", "infinibandGUID", s.InfinibandGUID != "", s.InfinibandGUID},
	} {
		if !c.set {
			continue
		}
		if !a.Declares(c.capability) {
			return network.Invalid.Errorf("%q needs a plugin with the capability %q, and network %q (%s) has none: add \"capabilities\": {%q: true} to the plugin that implements it, or remove the key from the annotation",
				c.key, c.capability, a.Name, a.Source, c.capability)
		}
		if err := setCapability(a, c.capability, c.value); err != nil {
			return err
		}
	}
	return setClaim(a, s.IPAMClaimReference)
}

// setClaim delivers the name of an IPAMClaim (NPWG 4.1.2.1.11): to plugins
// that declare the capability, else as a CNI argument, which a plugin that
// knows claims may read.
func setClaim(a *network.Attachment, claim string) error {
	const key = "ipam-claim-reference"
	if claim == "" {
		return nil
	}
	if a.Declares(key) {
		return setCapability(a, key, claim)
	}
	raw, err := json.Marshal(claim)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	return a.SetArgs(a.Source, map[string]json.RawMessage{key: raw})
}

func setCapability(a *network.Attachment, capability string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", capability, err)
	}
	if a.CapabilityArgs == nil {
		a.CapabilityArgs = map[string]json.RawMessage{}
	}
	a.CapabilityArgs[capability] = raw
	return nil
}
