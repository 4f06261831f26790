package fixipam

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// parseRoutes reads ipam.routes. They are passed on as written: one without
// "gw" goes by the result's gateway (CNI 1.1 section 5).
func parseRoutes(raws []json.RawMessage, s subnet) ([]*types.Route, error) {
	var out []*types.Route
	for i, raw := range raws {
		r, err := parseRoute(raw, s)
		if err != nil {
			return nil, fmt.Errorf("fixipam: ipam.routes[%d]%w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// parseRoute reads a route. Its error begins behind the route's key.
func parseRoute(raw json.RawMessage, s subnet) (*types.Route, error) {
	// The library's type takes a route without a destination, and forgets
	// which of two strings was wrong.
	var text struct {
		Dst string `json:"dst"`
		GW  string `json:"gw"`
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, network.Invalid.Errorf(` %s: %w; want an object such as {"dst": "0.0.0.0/0"}`, clip(string(raw)), err)
	}
	family := "IPv6"
	if s.Addr().Is4() {
		family = "IPv4"
	}
	dst, err := netip.ParsePrefix(text.Dst)
	if err != nil || dst.Addr().Is4In6() {
		return nil, network.Invalid.Errorf(`.dst %q: want an %s destination ADDRESS/BITS such as "0.0.0.0/0" or "::/0"`, clip(text.Dst), family)
	}
	// The pod gets one address; the oldest results lose other routes silently.
	if dst.Addr().Is4() != s.Addr().Is4() {
		return nil, network.Invalid.Errorf(".dst %q: want an %s destination, as ipam.subnet %s is", text.Dst, family, s.Prefix)
	}
	if text.GW != "" {
		gw, why := parseUnicast(text.GW)
		if why == "" && gw.Is4() != dst.Addr().Is4() {
			why = "is of another IP version than dst"
		}
		if why != "" {
			return nil, network.Invalid.Errorf(".gw %q: %s; want the %s address of a router, or leave it out for ipam.gateway", clip(text.GW), why, family)
		}
	}
	var r types.Route
	if err = json.Unmarshal(raw, &r); err != nil {
		return nil, network.Invalid.Errorf(" %s: %w; want whole numbers for mtu, advmss, priority, table and scope", clip(string(raw)), err)
	}
	return &r, nil
}
