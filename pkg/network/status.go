package network

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// StatusAnnotation shows what a pod got of each of its networks (NPWG 5).
const StatusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// NetworkStatus is one element of the annotation: NPWG's keys, and Multus's
// mtu and gateway.
type NetworkStatus struct {
	Name         string          `json:"name"`
	Interface    string          `json:"interface,omitempty"`
	IPs          []string        `json:"ips,omitempty"` // without prefix lengths, as in Multus
	MAC          string          `json:"mac,omitempty"`
	MTU          int             `json:"mtu,omitempty"`
	Default      bool            `json:"default"`
	DNS          *StatusDNS      `json:"dns,omitempty"` // empty, but there, with every result, as in Multus
	DeviceInfo   json.RawMessage `json:"device-info,omitempty"`
	Gateway      []string        `json:"gateway,omitempty"`
	DefaultRoute []string        `json:"default-route,omitempty"`
}

// StatusDNS is what a network says of name resolution (NPWG 5.3.6).
type StatusDNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
}

// Attached is one attachment of a pod and what came of it.
type Attached struct {
	Attachment *Attachment
	Result     *current.Result // at the highest version, with the routes that are left of it
	Device     json.RawMessage // the device's information; nil = there is none
}

// StatusOf returns one status for each attachment, in order. The first that
// is the cluster network is the default; the caller sees to it that there is
// one.
func StatusOf(list []Attached) []NetworkStatus {
	cluster := slices.IndexFunc(list, func(a Attached) bool { return a.Attachment != nil && a.Attachment.Cluster })
	out := []NetworkStatus{}
	for i := range list {
		if list[i].Attachment != nil {
			s := list[i].status()
			s.Default = i == cluster
			out = append(out, s)
		}
	}
	return out
}

// EncodeStatus returns the annotation's value.
func EncodeStatus(list []NetworkStatus) (string, error) {
	if list == nil {
		list = []NetworkStatus{}
	}
	for i := range list {
		if info := list[i].DeviceInfo; len(info) > 0 {
			if err := CheckDeviceInfo("device-info of network "+list[i].Name, info); err != nil {
				return "", err
			}
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(list); err != nil {
		return "", fmt.Errorf("encode %s: %w", StatusAnnotation, err)
	}
	return string(bytes.TrimSpace(out.Bytes())), nil
}

// status is about the first interface in the pod (NPWG 5.1.1). Without a
// result it is the name alone.
func (a *Attached) status() NetworkStatus {
	s := NetworkStatus{Name: or(a.Attachment.Reference, a.Attachment.Name), DeviceInfo: a.Device}
	if r := withoutNulls(a.Result); !saysNothing(r) {
		home := slices.IndexFunc(r.Interfaces, func(i *current.Interface) bool { return i.Sandbox != "" && i.Name != "" })
		own := addressesOf(r, home)
		switch {
		case home >= 0:
			s.Interface, s.MAC, s.MTU = r.Interfaces[home].Name, r.Interfaces[home].Mac, max(r.Interfaces[home].Mtu, 0)
		case len(r.Interfaces) == 0 && len(own) > 0: // 0.2.0 knows no interfaces
			s.Interface = a.Attachment.IfName
		}
		for _, ip := range own {
			s.IPs = append(s.IPs, ip.Address.IP.String())
		}
		s.Gateway = gatewaysBy(own, r)
		s.DNS = &StatusDNS{Nameservers: r.DNS.Nameservers, Domain: r.DNS.Domain, Search: r.DNS.Search}
	}
	s.DefaultRoute = defaultRoute(a.Attachment, s.Gateway)
	return s
}

// defaultRoute returns the gateways that a selection with default-route gave
// to its network; an empty list kept those that the network has (NPWG
// 5.3.6.4).
func defaultRoute(a *Attachment, own []string) []string {
	switch {
	case a.DefaultRoute == nil:
		return nil
	case len(*a.DefaultRoute) == 0:
		return own
	}
	var out []string
	for _, gw := range *a.DefaultRoute {
		if gw.IsValid() {
			out = append(out, gw.String())
		}
	}
	return out
}

// addressesOf returns an interface's addresses. Where none says that it is
// the interface's, those are that say nothing (NPWG 5.3.3.1).
func addressesOf(r *current.Result, home int) []*current.IPConfig {
	var own, free []*current.IPConfig
	for _, ip := range r.IPs {
		switch {
		case ip.Interface == nil || *ip.Interface < 0:
			free = append(free, ip)
		case *ip.Interface == home:
			own = append(own, ip)
		}
	}
	if len(own) > 0 {
		return own
	}
	return free
}

// gatewaysBy returns the gateways of a result's default routes, less those
// that another interface of the result leads to: a route names none.
func gatewaysBy(own []*current.IPConfig, r *current.Result) []string {
	var out []string
	for _, route := range r.Routes {
		gw := route.GW
		if gw == nil && route.Scope == nil {
			gw = gatewayFor(r.IPs, route.Dst)
		}
		reaches := func(ip *current.IPConfig) bool { return ip.Address.Contains(gw) }
		elsewhere := !slices.ContainsFunc(own, reaches) && slices.ContainsFunc(r.IPs, reaches)
		if gw != nil && isDefault(route) && !elsewhere && !slices.Contains(out, gw.String()) {
			out = append(out, gw.String())
		}
	}
	return out
}

// isDefault reports whether a route is a default route in the main table.
func isDefault(route *types.Route) bool {
	ones, bits := route.Dst.Mask.Size()
	return ones == 0 && bits > 0 && (route.Table == nil || *route.Table == unix.RT_TABLE_MAIN)
}

// withoutNulls returns what of a result can be read. Newest has checked it,
// but it may have been stored and read again.
func withoutNulls(r *current.Result) *current.Result {
	out := &current.Result{}
	if r == nil {
		return out
	}
	out.DNS = r.DNS
	for _, i := range r.Interfaces {
		if i == nil {
			i = &current.Interface{} // the others keep their places
		}
		out.Interfaces = append(out.Interfaces, i)
	}
	for _, ip := range r.IPs {
		if ip != nil && isAddress(ip.Address.IP) {
			out.IPs = append(out.IPs, ip)
		}
	}
	for _, route := range r.Routes {
		if route != nil && isAddress(route.Dst.IP) {
			out.Routes = append(out.Routes, route)
		}
	}
	return out
}

func isAddress(ip net.IP) bool { return len(ip) == net.IPv4len || len(ip) == net.IPv6len }

func saysNothing(r *current.Result) bool {
	return len(r.Interfaces) == 0 && len(r.IPs) == 0 && len(r.Routes) == 0 && r.DNS.IsEmpty()
}
