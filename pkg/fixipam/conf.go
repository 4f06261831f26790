package fixipam

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// conf is what we read of the network's configuration.
type conf struct {
	IPAM struct {
		Subnet  string            `json:"subnet"`
		Gateway string            `json:"gateway"`
		Routes  []json.RawMessage `json:"routes"`
		DNS     types.DNS         `json:"dns"`
	} `json:"ipam"`

	RuntimeConfig struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
			IP  string   `json:"IP"`
		} `json:"cni"`
	} `json:"args"`
	PrevResult json.RawMessage `json:"prevResult"`
}

func parseConf(stdin []byte) (*conf, error) {
	var c conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return nil, network.Invalid.Errorf("fixipam: key %q is a JSON %s, want %s", clip(wrong.Field), wrong.Value, wanted(wrong.Type.Kind().String()))
		}
		return nil, network.Malformed.Errorf("fixipam: configuration: %w", err)
	}
	return &c, nil
}

func wanted(kind string) string {
	switch kind {
	case "string":
		return "a string"
	case "slice":
		return "an array"
	case "int":
		return "a whole number"
	}
	return "an object"
}

// request is an address that somebody asked for.
type request struct {
	key   string // where it stands
	value string
}

// request returns the one address that is asked for. What the runtime hands
// over stands above the configuration, and that above CNI_ARGS.
func (c *conf) request(args string) (request, error) {
	for _, source := range []struct {
		key    string
		values []string
	}{
		{"runtimeConfig.ips", c.RuntimeConfig.IPs},
		{"args.cni.ips", c.Args.CNI.IPs},
		{"args.cni.IP", notEmpty(c.Args.CNI.IP)}, // "cni-args" of the pod's annotation come here
		{"IP of CNI_ARGS", fromArgs(args)},
	} {
		switch len(source.values) {
		case 0:
			continue
		case 1:
			return request{source.key, source.values[0]}, nil
		}
		return request{}, network.Invalid.Errorf("fixipam: %s asks for %d addresses (%s): want exactly one", source.key, len(source.values), clip(strings.Join(source.values, ", ")))
	}
	return request{}, network.Invalid.Errorf(`fixipam: no address is asked for: write "ips": ["..."] for this network in the pod's annotation and "capabilities": {"ips": true} in the network's configuration, or "cni-args": {"IP": "..."} in the annotation`)
}

// fromArgs returns every IP of CNI_ARGS. Keys of others are theirs.
func fromArgs(args string) []string {
	var out []string
	for pair := range strings.SplitSeq(args, ";") {
		if key, value, _ := strings.Cut(pair, "="); key == "IP" {
			out = append(out, notEmpty(value)...)
		}
	}
	return out
}

func notEmpty(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// address returns the pod's address and the subnet that it is of.
func (c *conf) address(args string) (subnet, netip.Prefix, error) {
	s, err := parseSubnet(c.IPAM.Subnet, c.IPAM.Gateway)
	if err != nil {
		return s, netip.Prefix{}, err
	}
	asked, err := c.request(args)
	if err != nil {
		return s, netip.Prefix{}, err
	}
	address, err := s.take(asked)
	return s, address, err
}

// clip keeps a wrong value from filling the pod's events.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
