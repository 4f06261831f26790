package fixipam

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Plugin is the embedded plugin `fixipam`.
type Plugin struct{}

var _ network.Embedded = Plugin{}

// Run implements network.Embedded.
func (Plugin) Run(_ context.Context, call network.Call) ([]byte, error) {
	switch call.Command {
	case "ADD":
		return add(call)
	case "CHECK":
		return nil, check(call)
	case "DEL", "GC", "STATUS":
		// Nothing is kept: what ADD would refuse has nothing to release either.
		return nil, nil
	}
	return nil, network.Environment.Errorf("fixipam: CNI_COMMAND %q is not known", clip(call.Command))
}

func add(call network.Call) ([]byte, error) {
	c, err := parseConf(call.Stdin)
	if err != nil {
		return nil, err
	}
	s, address, err := c.address(call.Args)
	if err != nil {
		return nil, err
	}
	routes, err := parseRoutes(c.IPAM.Routes, s)
	if err != nil {
		return nil, err
	}
	return encode(call.Stdin, &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		IPs:        []*current.IPConfig{{Address: ipNet(address), Gateway: s.gateway.AsSlice()}},
		Routes:     routes,
		DNS:        c.IPAM.DNS,
	})
}

// encode prints the result at the configuration's version; one without a
// version is the first (CNI 0.1.0).
func encode(stdin []byte, result *current.Result) ([]byte, error) {
	version, err := create.DecodeVersion(stdin)
	if err != nil {
		return nil, network.Malformed.Errorf("fixipam: cniVersion: %w", err)
	}
	out, err := result.GetAsVersion(version)
	if err != nil {
		return nil, network.Unsupported.Errorf("fixipam: cniVersion %q: %w", clip(version), err)
	}
	return json.Marshal(out)
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
