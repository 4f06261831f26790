// Package fixipam is the embedded IPAM plugin `fixipam` of hustcat/sriov-cni:
// the pod says which address it wants, and gets it if it is one of the
// network's. It keeps no state; who gives two pods one address is the
// author of the pods.
package fixipam

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Plugin is the plugin.
type Plugin struct{}

var _ network.Embedded = Plugin{}

// Run implements network.Embedded. DEL, GC and STATUS have nothing to do.
func (Plugin) Run(_ context.Context, call network.Call) ([]byte, error) {
	if call.Command != "ADD" && call.Command != "CHECK" {
		return nil, nil
	}
	c, err := parse(call.Stdin, call.Args)
	if err != nil {
		return nil, err
	}
	if call.Command == "CHECK" {
		return nil, c.check()
	}
	version, err := create.DecodeVersion(call.Stdin)
	if err != nil {
		return nil, network.Malformed.Errorf("fixipam: cniVersion: %w", err)
	}
	out, err := c.result().GetAsVersion(version)
	if err != nil {
		return nil, network.Unsupported.Errorf("fixipam: %w", err)
	}
	return json.Marshal(out)
}

func (c *conf) result() *current.Result {
	ip := &current.IPConfig{Address: *netOf(netip.PrefixFrom(c.address, c.subnet.Bits()))}
	if c.gateway.IsValid() {
		ip.Gateway = c.gateway.AsSlice()
	}
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion, IPs: []*current.IPConfig{ip}, Routes: c.IPAM.Routes, DNS: c.IPAM.DNS,
	}
}

// check reports whether prevResult has the address (CNI 1.1 section 2, CHECK).
func (c *conf) check() error {
	if len(c.PrevResult) == 0 {
		return network.Invalid.Errorf("fixipam: CHECK without prevResult")
	}
	parsed, err := create.CreateFromBytes(c.PrevResult)
	var result *current.Result
	if err == nil {
		result, err = current.NewResultFromResult(parsed)
	}
	if err != nil {
		return network.Malformed.Errorf("fixipam: prevResult: %w", err)
	}
	want := netOf(netip.PrefixFrom(c.address, c.subnet.Bits())).String()
	if !slices.ContainsFunc(result.IPs, func(ip *current.IPConfig) bool { return ip.Address.String() == want }) {
		return network.Missing.Errorf("fixipam: the pod asks for %s, and the result of its ADD lacks it", want)
	}
	return nil
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// ipam is the configuration's "ipam".
type ipam struct {
	Subnet  string         `json:"subnet"`
	Gateway string         `json:"gateway"`
	Routes  []*types.Route `json:"routes"`
	DNS     types.DNS      `json:"dns"`
}
