package fixipam

import (
	"encoding/json"
	"net/netip"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// check is CHECK: the pod still has the address that it asks for, as far as
// prevResult tells. Whether the interface has it is the main plugin's to see.
func check(call network.Call) error {
	c, err := parseConf(call.Stdin)
	if err != nil {
		return err
	}
	_, want, err := c.address(call.Args)
	if err != nil {
		return err
	}
	has, err := c.previous()
	if err != nil {
		return err
	}
	for _, text := range has {
		if p, parseErr := netip.ParsePrefix(text); parseErr == nil && p == want {
			return nil
		}
	}
	return network.Missing.Errorf("fixipam: the pod asks for address %s, prevResult has %q", want, has)
}

// previous returns the addresses of prevResult as written. The library's
// types are not used: their conversions do not survive a null among "ips".
func (c *conf) previous() ([]string, error) {
	if len(c.PrevResult) == 0 || string(c.PrevResult) == "null" {
		return nil, network.Invalid.Errorf("fixipam: CHECK without prevResult")
	}
	type old struct { // CNI 0.1.0 and 0.2.0
		IP string `json:"ip"`
	}
	var result struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
		IP4 old `json:"ip4"`
		IP6 old `json:"ip6"`
	}
	if err := json.Unmarshal(c.PrevResult, &result); err != nil {
		return nil, network.Malformed.Errorf("fixipam: prevResult: %w", err)
	}
	out := append(notEmpty(result.IP4.IP), notEmpty(result.IP6.IP)...)
	for _, ip := range result.IPs {
		out = append(out, notEmpty(ip.Address)...)
	}
	return out, nil
}
