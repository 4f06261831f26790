package fixipam

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// conf is a configuration that was checked.
type conf struct {
	IPAM          ipam                `json:"ipam"`
	RuntimeConfig asked               `json:"runtimeConfig"`
	Args          struct{ CNI asked } `json:"args"`
	PrevResult    json.RawMessage     `json:"prevResult"`

	subnet  netip.Prefix
	gateway netip.Addr // invalid = none
	address netip.Addr
}

type asked struct {
	IPs []string `json:"ips"`
}

// parse reads a configuration and the address that the pod asks for. Errors
// name the key, the value and what is legal.
func parse(stdin []byte, args string) (*conf, error) {
	var c conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		return nil, network.Malformed.Errorf("fixipam: configuration: %w", err)
	}
	for i, r := range c.IPAM.Routes {
		if r == nil || r.Dst.IP == nil {
			return nil, network.Invalid.Errorf("fixipam: ipam.routes[%d]: want an object with \"dst\", a prefix such as 0.0.0.0/0", i)
		}
	}
	var err error
	if c.subnet, err = parseSubnet(c.IPAM.Subnet); err != nil {
		return nil, err
	}
	if c.IPAM.Gateway != "" {
		if c.gateway, err = c.inSubnet("ipam.gateway", c.IPAM.Gateway); err != nil {
			return nil, err
		}
	}
	source, text, err := c.asked(args)
	if err != nil {
		return nil, err
	}
	if c.address, err = c.inSubnet(source, text); err != nil {
		return nil, err
	}
	if c.address == c.gateway {
		return nil, network.Invalid.Errorf("fixipam: %s %s: is the gateway of %s; ask for another address", source, c.address, c.subnet)
	}
	return &c, nil
}

func parseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	if err != nil || !ordinary(subnet.Addr()) {
		return subnet, network.Invalid.Errorf("fixipam: ipam.subnet %q: want the network's prefix, such as 10.55.206.0/26", clip(text))
	}
	return subnet.Masked(), nil
}

// asked returns the one address that the pod asks for, and where it does.
func (c *conf) asked(args string) (source, text string, err error) {
	for _, from := range []struct {
		source string
		ips    []string
	}{{"runtimeConfig.ips", c.RuntimeConfig.IPs}, {"args.cni.ips", c.Args.CNI.IPs}, {"IP of CNI_ARGS", argument(args)}} {
		switch len(from.ips) {
		case 0:
		case 1:
			return from.source, from.ips[0], nil
		default:
			return "", "", network.Invalid.Errorf("fixipam: %s: %d addresses, want one of %s", from.source, len(from.ips), c.subnet)
		}
	}
	return "", "", network.Invalid.Errorf("fixipam: the pod asks for no address: write \"ips\": [\"ADDRESS\"] for this network in the pod's annotation and declare the capability \"ips\" in the network's configuration, or write \"cni-args\": {\"IP\": \"ADDRESS\"}; one of %s", c.subnet)
}

// argument returns IP of CNI_ARGS.
func argument(args string) []string {
	for pair := range strings.SplitSeq(args, ";") {
		if key, value, _ := strings.Cut(pair, "="); key == "IP" && value != "" {
			return []string{value}
		}
	}
	return nil
}

// inSubnet reads an address that a host of the subnet can have. A prefix
// behind it must be the subnet's.
func (c *conf) inSubnet(key, text string) (netip.Addr, error) {
	bare, bits, prefixed := strings.Cut(text, "/")
	address, err := netip.ParseAddr(bare)
	switch {
	case err != nil || !ordinary(address):
		return address, network.Invalid.Errorf("fixipam: %s %q: want an address of %s", key, clip(text), c.subnet)
	case prefixed && c.subnet.String() != netip.PrefixFrom(address, c.subnet.Bits()).Masked().String(), prefixed && !sameBits(bits, c.subnet):
		return address, network.Invalid.Errorf("fixipam: %s %q: want an address of %s, with /%d or without", key, clip(text), c.subnet, c.subnet.Bits())
	case !c.subnet.Contains(address):
		return address, network.Invalid.Errorf("fixipam: %s %s: is not in ipam.subnet %s", key, address, c.subnet)
	}
	host := c.subnet.Addr().BitLen() - c.subnet.Bits()
	if host >= 2 && address == c.subnet.Addr() {
		return address, network.Invalid.Errorf("fixipam: %s %s: is the address of the network %s itself", key, address, c.subnet)
	}
	if host >= 2 && address.Is4() && !c.subnet.Contains(address.Next()) {
		return address, network.Invalid.Errorf("fixipam: %s %s: is the broadcast address of %s", key, address, c.subnet)
	}
	return address, nil
}

func sameBits(text string, subnet netip.Prefix) bool {
	p, err := netip.ParsePrefix(subnet.Addr().String() + "/" + text)
	return err == nil && p.Bits() == subnet.Bits()
}

// ordinary reports an address that a NIC can have: not IPv4 in IPv6's
// clothes, and of no special kind.
func ordinary(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback()
}

func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
