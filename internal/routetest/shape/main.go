// Command shape is a CNI plugin for tests: it gives a pod the cluster network
// that Calico or Cilium would give it. The links, addresses, routes and
// sysctls are real; the addresses come from the configuration, so there is one
// pod at a time.
//
// Both give the pod an address of its own full length (/32, /128), a route to
// a gateway that is no neighbour by address, and the default by it.
//
//	"style": "calico"  169.254.1.1, which nobody has: the host end answers by
//	                   proxy ARP. For IPv6 the host end's link-local address.
//	                   The result has neither routes nor the pod's interface.
//	"style": "cilium"  "gateways", which are addresses of the node. The result
//	                   has interfaces, gateways and routes, and CHECK wants
//	                   each route of the result that it is given.
package main

import (
	"encoding/json"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// config is the network's configuration.
type config struct {
	types.NetConf
	Style     string   `json:"style"`
	Addresses []string `json:"addresses"` // of the pod, with prefix lengths
	Gateways  []string `json:"gateways"`  // of the node, cilium's alone
}

func main() {
	funcs := skel.CNIFuncs{Add: add, Del: del, Check: check}
	skel.PluginMainFuncs(funcs, version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0"), "shape: a test's cluster network")
}

func add(args *skel.CmdArgs) error {
	plan, err := read(args)
	if err != nil {
		return err
	}
	pod, err := enter(args)
	if err != nil {
		return err
	}
	defer pod.close()
	if err = pod.connect(plan); err != nil {
		return err
	}
	return types.PrintResult(plan.result(args, pod), plan.version)
}

// del removes the pod's link, and with it the host end and its routes.
func del(args *skel.CmdArgs) error {
	if args.Netns == "" {
		return nil
	}
	pod, err := enter(args)
	if err != nil {
		return nil // the namespace is gone, and the link with it
	}
	defer pod.close()
	return pod.disconnect()
}

func check(args *skel.CmdArgs) error {
	plan, err := read(args)
	if err != nil {
		return err
	}
	pod, err := enter(args)
	if err != nil {
		return err
	}
	defer pod.close()
	return pod.compare(plan)
}

// plan is what a pod gets.
type plan struct {
	version   string
	style     string
	addresses []*net.IPNet
	gateways  []net.IP       // by which a default goes; calico's for IPv6 is known later
	previous  []*types.Route // CHECK's
}

func read(args *skel.CmdArgs) (*plan, error) {
	var conf config
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	p := &plan{version: conf.CNIVersion, style: conf.Style}
	for _, text := range conf.Addresses {
		ip, mask, err := net.ParseCIDR(text)
		if err != nil {
			return nil, err
		}
		p.addresses = append(p.addresses, &net.IPNet{IP: ip, Mask: mask.Mask})
	}
	switch conf.Style {
	case "calico":
		p.gateways = []net.IP{net.IPv4(169, 254, 1, 1)}
	case "cilium":
		for _, text := range conf.Gateways {
			p.gateways = append(p.gateways, net.ParseIP(text))
		}
	default:
		return nil, fmt.Errorf("style %q: want calico or cilium", conf.Style)
	}
	if conf.RawPrevResult == nil {
		return p, nil
	}
	if err := version.ParsePrevResult(&conf.NetConf); err != nil {
		return nil, err
	}
	previous, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, err
	}
	p.previous = previous.Routes
	return p, nil
}

// result is what the style's plugin would print.
func (p *plan) result(args *skel.CmdArgs, pod *pod) *current.Result {
	r := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	r.Interfaces = []*current.Interface{{Name: pod.hostName(), Mac: pod.hostMAC}}
	if p.style == "calico" {
		for _, address := range p.addresses {
			r.IPs = append(r.IPs, &current.IPConfig{Address: *address})
		}
		return r
	}
	r.Interfaces = append(r.Interfaces, &current.Interface{Name: args.IfName, Mac: pod.mac, Sandbox: args.Netns})
	for i, address := range p.addresses {
		gw := p.gateways[i]
		r.IPs = append(r.IPs, &current.IPConfig{Address: *address, Gateway: gw, Interface: current.Int(1)})
		r.Routes = append(r.Routes, &types.Route{Dst: *host(gw)}, &types.Route{Dst: *whole(gw), GW: gw})
	}
	return r
}
