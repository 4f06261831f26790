package sriov

import (
	"encoding/json"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Limits of what a configuration may say.
const (
	maxVLAN = 4094
	maxQoS  = 7
	minMTU  = 68    // RFC 791: what every IPv4 host takes
	maxMTU  = 65535 // the kernel tells the device's own limit
	maxVFs  = 65535 // of a PF, PCI Express SR-IOV 3.3.5
	maxRate = 1<<31 - 1
)

// NormalPCI returns a PCI address as sysfs writes it: domain:bus:device.function
// in lower-case hexadecimal. `key` is where it stands.
func NormalPCI(key, address string) (string, error) {
	lower := strings.ToLower(address)
	if !regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`).MatchString(lower) {
		return "", network.Invalid.Errorf("sriov: %s %q: want a PCI address such as 0000:01:10.0 (domain:bus:device.function)", key, clip(address))
	}
	return lower, nil
}

type unsupportedKey struct{ key, why string }

// unsupportedKeys are those of other SR-IOV plugins, each with what to do.
func unsupportedKeys() []unsupportedKey {
	return []unsupportedKey{
		{"rdmaIsolation", "RDMA devices are not moved yet; chain the plugin \"rdma\" behind sriov and leave the key out"},
		{"ibKubernetesEnabled", "InfiniBand is not supported yet; use ib-sriov-cni for this network"},
		{"infinibandGUID", "InfiniBand is not supported yet; use ib-sriov-cni for this network"},
		{"pkey", "InfiniBand is not supported yet; use ib-sriov-cni for this network"},
		{"dpdk", "drivers are not bound by the plugin: bind the VF to vfio-pci beforehand and leave the key out"},
		{"if0", "that key was hustcat/sriov-cni's fork of intel; use \"master\" or \"deviceID\""},
		{"if0name", "the interface's name comes from the pod's annotation"},
		{"l2enable", "leave \"ipam\" out for a NIC without addresses"},
	}
}

// refuseUnknownHardware names keys of other SR-IOV plugins whose meaning
// would be lost: a pod must not start without what it was promised.
func (c *Conf) refuseUnknownHardware(stdin []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return network.Malformed.Errorf("sriov: configuration: %w", err)
	}
	for _, r := range unsupportedKeys() {
		for key, raw := range keys { // in any case, as those plugins read them
			if strings.EqualFold(key, r.key) && !slices.Contains([]string{"null", "false", `""`}, string(raw)) {
				return network.Invalid.Errorf("sriov: key %q (%s): %s", r.key, clip(string(raw)), r.why)
			}
		}
	}
	var ipam map[string]json.RawMessage
	_ = json.Unmarshal(keys["ipam"], &ipam) // it was read before
	named := slices.ContainsFunc(slices.Collect(maps.Keys(ipam)), func(key string) bool { return strings.EqualFold(key, "type") })
	if len(ipam) > 0 && !named { // an empty one is sriov-cni's word for none
		return network.Invalid.Errorf("sriov: ipam has no \"type\": name an IPAM plugin, or leave \"ipam\" out for a NIC without addresses")
	}
	if guid := c.RuntimeConfig.InfinibandGUID; guid != "" {
		return network.Invalid.Errorf("sriov: infinibandGUID %q: InfiniBand is not supported yet; remove \"infiniband-guid\" from the pod's annotation, or use ib-sriov-cni for this network", clip(guid))
	}
	return nil
}

// validate refuses what cannot be meant, before anything has an effect.
func (c *Conf) validate() error {
	for _, check := range []func() error{c.validateDevice, c.validateVLAN, c.validateMAC, c.validateRates, c.validateWords} {
		if err := check(); err != nil {
			return err
		}
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		return network.Invalid.Errorf("sriov: mtu %d: want %d to %d bytes, or leave it out", c.MTU, minMTU, maxMTU)
	}
	if c.LogFile != "" && !filepath.IsAbs(c.LogFile) {
		return network.Invalid.Errorf("sriov: logFile %q: want an absolute path", clip(c.LogFile))
	}
	return nil
}

func (c *Conf) validateDevice() error {
	if c.Master != "" {
		if err := network.ValidateInterface("sriov: master", c.Master); err != nil {
			return err
		}
	}
	if c.DeviceID != "" {
		var err error
		if c.DeviceID, err = NormalPCI("deviceID", c.DeviceID); err != nil {
			return err
		}
	}
	if c.VF != nil && (*c.VF < 0 || *c.VF > maxVFs) {
		return network.Invalid.Errorf("sriov: vf %d: want the index of a VF, 0 or more, at most %d", *c.VF, maxVFs)
	}
	return c.validateChoice()
}

// validateChoice refuses what does not say which device, or says it twice.
func (c *Conf) validateChoice() error {
	switch {
	case c.PFOnly && c.Master == "":
		return network.Invalid.Errorf("sriov: pfOnly needs \"master\", the PF that goes to the pod")
	case c.PFOnly && (c.setsAdmin() || c.VF != nil || c.DeviceID != ""):
		return network.Invalid.Errorf("sriov: pfOnly gives the pod the PF itself: remove deviceID, vf, vlan, mac, spoofchk, trust, link_state and the rates, which are a VF's")
	case c.DeviceID == "" && c.Master == "":
		return network.Invalid.Errorf("sriov: neither \"deviceID\" nor \"master\" says which VF: annotate the definition with k8s.v1.cni.cncf.io/resourceName, so that it gets the VF of the pod's device plugin, or name a PF as \"master\", of which a free VF is picked")
	case c.DeviceID != "" && c.VF != nil:
		return network.Invalid.Errorf("sriov: vf %d: the VF is chosen already by deviceID %q; \"vf\" goes with \"master\"", *c.VF, c.DeviceID)
	}
	return nil
}

func (c *Conf) validateVLAN() error {
	c.VLANProto = strings.ToLower(c.VLANProto)
	switch {
	case c.VLANProto != "" && !slices.Contains([]string{proto8021Q, proto8021AD}, c.VLANProto):
		return network.Invalid.Errorf("sriov: vlanProto %q: want %q or %q", clip(c.VLANProto), proto8021Q, proto8021AD)
	case c.VLAN == nil && c.VLANQoS != nil:
		return network.Invalid.Errorf("sriov: vlanQoS %d: set \"vlan\" too", *c.VLANQoS)
	case c.VLAN == nil && c.VLANProto != "":
		return network.Invalid.Errorf("sriov: vlanProto %q: set \"vlan\" too", c.VLANProto)
	case c.VLAN == nil:
		return nil
	}
	return c.validateTag()
}

// validateTag checks a VLAN that is asked for.
func (c *Conf) validateTag() error {
	switch {
	case *c.VLAN < 0 || *c.VLAN > maxVLAN:
		return network.Invalid.Errorf("sriov: vlan %d: want 0 (no tag) to %d", *c.VLAN, maxVLAN)
	case c.VLANQoS != nil && (*c.VLANQoS < 0 || *c.VLANQoS > maxQoS):
		return network.Invalid.Errorf("sriov: vlanQoS %d: want 0 to %d", *c.VLANQoS, maxQoS)
	case *c.VLAN == 0 && c.VLANQoS != nil && *c.VLANQoS != 0:
		return network.Invalid.Errorf("sriov: vlanQoS %d: needs a vlan of 1 to %d", *c.VLANQoS, maxVLAN)
	case *c.VLAN == 0 && c.VLANProto == proto8021AD:
		return network.Invalid.Errorf("sriov: vlanProto %q: needs a vlan of 1 to %d", c.VLANProto, maxVLAN)
	}
	return nil
}

func (c *Conf) validateMAC() error {
	if c.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(c.MAC)
	switch {
	case err != nil || len(mac) != 6:
		return network.Invalid.Errorf("sriov: mac %q: want six bytes such as 02:00:00:00:00:01", clip(c.MAC))
	case mac[0]&1 != 0:
		return network.Invalid.Errorf("sriov: mac %q: is a group address; the first byte of a NIC's own is even", c.MAC)
	case mac.String() == zeroMAC:
		return network.Invalid.Errorf("sriov: mac %q: is no address; leave it out for the VF's own", c.MAC)
	}
	c.MAC = mac.String()
	return nil
}

func (c *Conf) validateRates() error {
	for _, rate := range []struct {
		key   string
		value *int
	}{{"min_tx_rate", c.MinTxRate}, {"max_tx_rate", c.MaxTxRate}} {
		if rate.value != nil && (*rate.value < 0 || *rate.value > maxRate) {
			return network.Invalid.Errorf("sriov: %s %d: want Mbps, 0 (no limit) or more, at most %d", rate.key, *rate.value, maxRate)
		}
	}
	if c.MinTxRate != nil && c.MaxTxRate != nil && *c.MaxTxRate != 0 && *c.MinTxRate > *c.MaxTxRate {
		return network.Invalid.Errorf("sriov: min_tx_rate %d: is above max_tx_rate %d", *c.MinTxRate, *c.MaxTxRate)
	}
	return nil
}

func (c *Conf) validateWords() error {
	for _, word := range []struct {
		key, value string
		legal      []string
	}{
		{"spoofchk", c.SpoofChk, []string{"", on, off}},
		{"trust", c.Trust, []string{"", on, off}},
		{"link_state", c.LinkState, []string{"", linkAuto, linkEnable, linkDisable}},
		{"unsupported", c.Unsupported, []string{Strict, BestEffort}},
	} {
		if !slices.Contains(word.legal, word.value) {
			return network.Invalid.Errorf("sriov: %s %q: want one of %s", word.key, clip(word.value), strings.Trim(strings.Join(word.legal, ", "), ", "))
		}
	}
	return nil
}

func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
