package sriov

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// ipam runs the network's IPAM plugin with our own call's arguments. It
// returns what the plugin printed, nil where the network has none.
func (j *job) ipam(ctx context.Context) ([]byte, error) {
	if j.conf.IPAM.Type == "" {
		return nil, nil
	}
	return j.call.Exec(ctx, j.conf.IPAM.Type, j.call)
}

// address asks IPAM for the pod's addresses and sets them. Of a VF that a
// process drives they are only in the result: pod is nil then.
func (j *job) address(ctx context.Context, pod Netns, link Link) (*current.Result, error) {
	out, err := j.ipam(ctx)
	if err != nil {
		return nil, err
	}
	if out == nil {
		return &current.Result{CNIVersion: current.ImplementedSpecVersion}, nil
	}
	result, err := j.readIPAM(out)
	if err != nil || pod == nil {
		return result, err
	}
	announced, err := j.awaitCarrier(ctx, pod, link)
	if err != nil {
		return nil, err
	}
	// Some cards send a VF's own multicast back to it. The kernel would take our
	// announcement for a duplicate: what we announce is not detected, and the
	// kernel itself announces what is.
	if err = j.setAddresses(pod, link, result, !announced); err != nil {
		return nil, err
	}
	if announced {
		j.announce(ctx, pod, link, result)
	}
	return result, nil
}

func (j *job) readIPAM(out []byte) (*current.Result, error) {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(out, &head); err != nil {
		return nil, network.Malformed.Errorf("sriov: IPAM plugin %q printed no result: %w", j.conf.IPAM.Type, err)
	}
	version := head.CNIVersion
	if version == "" { // it is the configuration's then (CNI 1.1 section 5)
		if version = j.conf.CNIVersion; version == "" {
			version = "0.1.0"
		}
	}
	parsed, err := create.Create(version, out)
	if err != nil {
		return nil, network.Malformed.Errorf("sriov: result of IPAM plugin %q: %w", j.conf.IPAM.Type, err)
	}
	result, err := current.NewResultFromResult(parsed)
	if err != nil {
		return nil, network.Malformed.Errorf("sriov: result of IPAM plugin %q: %w", j.conf.IPAM.Type, err)
	}
	if slices.Contains(result.IPs, nil) || slices.Contains(result.Routes, nil) {
		return nil, network.Malformed.Errorf("sriov: result of IPAM plugin %q: null among its addresses or routes", j.conf.IPAM.Type)
	}
	if len(result.IPs) == 0 {
		return nil, network.Invalid.Errorf("sriov: IPAM plugin %q returned no address; for a NIC without any leave \"ipam\" out", j.conf.IPAM.Type)
	}
	return result, nil
}

func (j *job) setAddresses(pod Netns, link Link, result *current.Result, detect bool) error {
	for _, address := range prefixes(result) {
		if address.Addr().Is6() {
			if err := pod.AllowIPv6(link.Name); err != nil {
				return err
			}
		}
		if err := pod.AddAddress(link.Index, address, detect); err != nil {
			return fmt.Errorf("add address %s to %s: %w", address, link.Name, err)
		}
	}
	for _, r := range result.Routes {
		route := Route{
			Dst: prefixOf(&r.Dst), Gateway: addrOf(r.GW), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Scope: -1,
		}
		if r.Table != nil {
			route.Table = *r.Table
		}
		if r.Scope != nil {
			route.Scope = *r.Scope
		}
		if !route.Gateway.IsValid() && r.Scope == nil { // "the gateway of ips" (CNI 1.1 section 5)
			route.Gateway = gatewayFor(result, route.Dst.Addr())
		}
		if err := pod.AddRoute(link.Index, route); err != nil {
			return fmt.Errorf("add route to %s by %s: %w", route.Dst, link.Name, err)
		}
	}
	return nil
}

// gatewayFor returns the gateway that IPAM gave for the family of an address.
func gatewayFor(result *current.Result, of netip.Addr) netip.Addr {
	for _, ip := range result.IPs {
		if gw := addrOf(ip.Gateway); gw.IsValid() && gw.Is4() == of.Is4() {
			return gw
		}
	}
	return netip.Addr{}
}

func prefixes(result *current.Result) []netip.Prefix {
	var out []netip.Prefix
	for _, ip := range result.IPs {
		out = append(out, prefixOf(&ip.Address))
	}
	return out
}

// addrOf is the zero Addr for no address.
func addrOf(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// How long an ADD waits for the link before it announces, and between the
// announcement and its repetition.
const (
	carrierPatience = 200 * time.Millisecond
	repeatAfter     = 100 * time.Millisecond
)

// awaitCarrier reports whether the addresses are to be announced: the network
// wants it, and the link comes up in time. On one that comes up later nothing
// is announced: neighbours learn from the pod's first packets.
func (j *job) awaitCarrier(ctx context.Context, pod Netns, link Link) (bool, error) {
	if j.conf.Announce != nil && !*j.conf.Announce {
		return false, nil
	}
	waiting, cancel := context.WithTimeout(ctx, carrierPatience)
	defer cancel()
	for last := false; ; last = wait(waiting, pause) != nil {
		now, err := pod.LinkByName(link.Name)
		if err != nil || now.Carrier || last {
			return now.Carrier, err
		}
	}
}

// announce tells the link, and again a moment later, whose the pod's
// addresses are: a neighbour may remember the pod that had them before.
func (j *job) announce(ctx context.Context, pod Netns, link Link, result *current.Result) {
	var addresses []netip.Addr
	for _, p := range prefixes(result) {
		addresses = append(addresses, p.Addr())
	}
	for n := range 2 {
		if n > 0 && wait(ctx, repeatAfter) != nil {
			return
		}
		if err := pod.Announce(link.Index, link.MAC, addresses); err != nil {
			j.log.Warn("the pod's addresses cannot be announced: neighbours learn of them when they ask", "error", err.Error())
			return
		}
	}
}
