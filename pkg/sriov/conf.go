package sriov

import (
	"encoding/json"
	"errors"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Conf is the configuration of a network of type sriov: the keys of
// sriov-cni, and those of hustcat/sriov-cni (master, vf, pfOnly). Pointers
// tell "leave alone" from a value. docs/sriov.md lists every key.
type Conf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`

	DeviceID string `json:"deviceID"` // PCI address of the VF
	Master   string `json:"master"`   // a PF, of which a free VF is picked
	VF       *int   `json:"vf"`       // index of the VF of Master that is wanted
	PFOnly   bool   `json:"pfOnly"`   // Master itself goes to the pod

	VLAN      *int   `json:"vlan"`      // 0 to 4094; 0 clears the tag
	VLANQoS   *int   `json:"vlanQoS"`   // 0 to 7
	VLANProto string `json:"vlanProto"` // 802.1q or 802.1ad
	MAC       string `json:"mac"`
	SpoofChk  string `json:"spoofchk"`   // on or off
	Trust     string `json:"trust"`      // on or off
	LinkState string `json:"link_state"` // auto, enable or disable
	MinTxRate *int   `json:"min_tx_rate"`
	MaxTxRate *int   `json:"max_tx_rate"` // both in Mbps, 0 = no limit
	MTU       int    `json:"mtu"`         // of the VF, in bytes; 0 = leave alone

	// Unsupported says what happens when the driver does not know a knob
	// that the configuration sets: Strict or BestEffort.
	Unsupported string `json:"unsupported"`

	LogLevel string `json:"logLevel"`
	LogFile  string `json:"logFile"`

	// Announce: false leaves out the announcement of the pod's addresses, and
	// the wait for the link before it, 300 ms at most.
	Announce *bool `json:"announce"`

	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`

	Args struct {
		CNI map[string]json.RawMessage `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC            string `json:"mac"`
		DeviceID       string `json:"deviceID"`
		InfinibandGUID string `json:"infinibandGUID"`
		DeviceInfoFile string `json:"CNIDeviceInfoFile"`
	} `json:"runtimeConfig"`
	PrevResult json.RawMessage `json:"prevResult"`
}

// The values of Conf.Unsupported.
const (
	Strict     = "strict"      // an error, the default
	BestEffort = "best-effort" // a warning
)

// ParseConf reads a configuration. VF, VLAN and MAC in CNI_ARGS take the place
// of the keys, those in args.cni (the annotation's cni-args) of both, but for a
// VLAN that is said already, and runtimeConfig stands above all. Errors are
// Malformed or Invalid and name the key, the value and what is legal.
func ParseConf(stdin []byte, args string) (*Conf, error) {
	c, err := decode(stdin)
	if err != nil {
		return nil, err
	}
	if err = c.refuseUnknownHardware(stdin); err != nil {
		return nil, err
	}
	if err = c.take(fromCNIArgs(args)); err != nil {
		return nil, err
	}
	tag := c.VLAN
	if err = c.take(fromArgsCNI(c.Args.CNI)); err != nil {
		return nil, err
	}
	if tag != nil && *tag != *c.VLAN { // it keeps tenants apart
		return nil, network.Invalid.Errorf("sriov: VLAN \"%d\" in \"cni-args\" of the pod's annotation: the network has vlan %d, which a pod cannot change: remove it, or ask for a network of that VLAN", *c.VLAN, *tag)
	}
	if c.RuntimeConfig.MAC != "" {
		c.MAC = c.RuntimeConfig.MAC
	}
	if c.RuntimeConfig.DeviceID != "" {
		c.DeviceID = c.RuntimeConfig.DeviceID
	}
	if c.Unsupported == "" {
		c.Unsupported = Strict
	}
	return c, c.validate()
}

// decode reads the JSON and nothing else.
func decode(stdin []byte) (*Conf, error) {
	var c Conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return nil, network.Invalid.Errorf("sriov: key %q is a JSON %s, want %s", wrong.Field, wrong.Value, wanted(wrong.Type.Kind().String()))
		}
		return nil, network.Malformed.Errorf("sriov: configuration: %w", err)
	}
	return &c, nil
}

// decodeAnyhow leaves keys out whose JSON has another type than we know: what
// ADD refused, and what a later version of us wrote, must still be released.
func decodeAnyhow(stdin []byte) (*Conf, error) {
	var c Conf
	var wrong *json.UnmarshalTypeError
	if err := json.Unmarshal(stdin, &c); err != nil && (!errors.As(err, &wrong) || wrong.Field == "") {
		return nil, network.Malformed.Errorf("sriov: configuration: %w", err)
	}
	return &c, nil
}

func wanted(kind string) string {
	switch kind {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	}
	return "an object"
}

// setsAdmin reports whether the configuration sets anything that the PF
// holds. Without, the PF's list of VFs need not be read.
func (c *Conf) setsAdmin() bool { return len(c.knobs()) > 0 }

// knobs are those that the configuration sets.
func (c *Conf) knobs() []Knob {
	var set []Knob
	for _, k := range []struct {
		knob Knob
		set  bool
	}{
		{KnobVLAN, c.VLAN != nil}, {KnobMAC, c.MAC != ""}, {KnobRate, c.MinTxRate != nil || c.MaxTxRate != nil},
		{KnobSpoofChk, c.SpoofChk != ""}, {KnobTrust, c.Trust != ""}, {KnobLinkState, c.LinkState != ""},
	} {
		if k.set {
			set = append(set, k.knob)
		}
	}
	return set
}

// over lays what the configuration sets over a VF's state.
func (c *Conf) over(a Admin) Admin {
	if c.VLAN != nil {
		a.VLAN, a.QoS, a.Proto = *c.VLAN, 0, proto8021Q
		if c.VLANQoS != nil {
			a.QoS = *c.VLANQoS
		}
		if c.VLANProto != "" {
			a.Proto = c.VLANProto
		}
	}
	if c.MAC != "" {
		a.MAC = c.MAC
	}
	if c.MinTxRate != nil {
		a.MinTxRate = *c.MinTxRate
	}
	if c.MaxTxRate != nil {
		a.MaxTxRate = *c.MaxTxRate
	}
	if c.SpoofChk != "" {
		a.SpoofChk = c.SpoofChk
	}
	if c.Trust != "" {
		a.Trust = c.Trust
	}
	if c.LinkState != "" {
		a.LinkState = c.LinkState
	}
	return a
}

// previous returns the addresses of prevResult, as CHECK gets it.
func (c *Conf) previous() ([]netip.Prefix, error) {
	if len(c.PrevResult) == 0 {
		return nil, network.Invalid.Errorf("sriov: CHECK without prevResult")
	}
	parsed, err := create.CreateFromBytes(c.PrevResult)
	if err != nil {
		return nil, network.Malformed.Errorf("sriov: prevResult: %w", err)
	}
	result, err := current.NewResultFromResult(parsed)
	if err != nil {
		return nil, network.Malformed.Errorf("sriov: prevResult: %w", err)
	}
	return prefixes(result), nil
}
