package network

import (
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Part is one attachment's share of the merged result.
type Part struct {
	IfName string          // the interface that was asked for
	Result *current.Result // at the highest version
}

// MergeOptions say what the one result is for.
type MergeOptions struct {
	Netns   string // CNI_NETNS: the sandbox of interfaces in the pod
	IfName  string // CNI_IFNAME: the cluster network's interface
	Runtime string // Config.Runtime
}

// Merge returns one result: the cluster network's, values and order
// unchanged, then each attachment's. Every address of an attachment gets the
// index of its interface and every route its gateway, since both mean
// something else in a longer list. Pod addresses as Kubernetes shows them
// must not change, see keepPodIPs. CNI 1.1 section 5.
func Merge(cluster *current.Result, parts []Part, opts MergeOptions) *current.Result {
	out := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: slices.Clone(cluster.Interfaces),
		IPs:        slices.Clone(cluster.IPs),
		Routes:     slices.Clone(cluster.Routes),
		DNS:        *cluster.DNS.Copy(),
	}
	for _, part := range parts {
		p := part.Indexed(opts.Netns)
		p = withoutName(p, opts.IfName)
		if opts.Runtime == CRIO {
			p.IPs = keepPodIPs(cluster.IPs, p.IPs)
		}
		offset := len(out.Interfaces)
		out.Interfaces = append(out.Interfaces, p.Interfaces...)
		for _, ip := range p.IPs {
			ip.Interface = current.Int(*ip.Interface + offset)
			out.IPs = append(out.IPs, ip)
		}
		out.Routes = append(out.Routes, p.Routes...)
		mergeDNS(&out.DNS, p.DNS)
	}
	return out
}

// Indexed returns a copy of the part's result in which every address points
// to an interface and every route that meant "the gateway of ips" names it.
func (part Part) Indexed(netns string) *current.Result {
	in := part.Result
	out := &current.Result{DNS: in.DNS}
	for _, i := range in.Interfaces {
		out.Interfaces = append(out.Interfaces, i.Copy())
	}
	home := -1
	for _, ip := range in.IPs {
		ip = ip.Copy()
		if ip.Interface == nil {
			if home < 0 {
				home = podInterface(out, part.IfName, netns)
			}
			ip.Interface = current.Int(home)
		}
		out.IPs = append(out.IPs, ip)
	}
	for _, route := range in.Routes {
		route = route.Copy()
		if route.GW == nil && route.Scope == nil {
			route.GW = gatewayFor(in.IPs, route.Dst)
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}

// podInterface returns the index of the attachment's interface in the pod:
// the one that was asked for, else the first in a sandbox. A result without
// any (0.2.0 knows none) gets one.
func podInterface(r *current.Result, ifname, netns string) int {
	first := -1
	for i, iface := range r.Interfaces {
		if iface.Sandbox == "" {
			continue
		}
		if iface.Name == ifname {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	if first >= 0 {
		return first
	}
	r.Interfaces = append(r.Interfaces, &current.Interface{Name: ifname, Sandbox: netns})
	return len(r.Interfaces) - 1
}

// gatewayFor is the gateway that a route without one means. A route to the
// gateway itself has none.
func gatewayFor(ips []*current.IPConfig, dst net.IPNet) net.IP {
	ones, _ := dst.Mask.Size()
	for _, ip := range ips {
		if ip.Gateway != nil && isIPv4(ip.Gateway) == isIPv4(dst.IP) && (ones == 0 || !dst.Contains(ip.Gateway)) {
			return ip.Gateway
		}
	}
	return nil
}

func isIPv4(ip net.IP) bool { return ip.To4() != nil }

// withoutName leaves out an attachment's host-side interface that has the
// name of the cluster network's interface in the pod. containerd keys
// interfaces by name alone: such an entry would replace eth0's.
func withoutName(r *current.Result, ifname string) *current.Result {
	drop := slices.IndexFunc(r.Interfaces, func(i *current.Interface) bool { return i.Name == ifname })
	if drop < 0 {
		return r
	}
	r.Interfaces = slices.Delete(r.Interfaces, drop, drop+1)
	var ips []*current.IPConfig
	for _, ip := range r.IPs {
		switch {
		case *ip.Interface == drop:
			continue
		case *ip.Interface > drop:
			ip.Interface = current.Int(*ip.Interface - 1)
		}
		ips = append(ips, ip)
	}
	r.IPs = ips
	return withoutName(r, ifname)
}

// keepPodIPs withholds addresses of a family that the cluster network
// lacks: CRI-O reports every address, and kubelet takes the first of each
// family for the pod's.
func keepPodIPs(cluster, ips []*current.IPConfig) []*current.IPConfig {
	return slices.DeleteFunc(slices.Clone(ips), func(ip *current.IPConfig) bool {
		return !slices.ContainsFunc(cluster, func(c *current.IPConfig) bool {
			return isIPv4(c.Address.IP) == isIPv4(ip.Address.IP)
		})
	})
}

func mergeDNS(to *types.DNS, from types.DNS) {
	to.Nameservers = append(to.Nameservers, from.Nameservers...)
	to.Search = append(to.Search, from.Search...)
	to.Options = append(to.Options, from.Options...)
	to.Domain = or(to.Domain, from.Domain)
}

// Newest returns a result at the highest version, checked. libcni's
// converters take a null in a list for a value; that ends here.
func Newest(result types.Result) (newest *current.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			newest, err = nil, Malformed.Errorf("result: a list holds null")
		}
	}()
	if newest, err = current.NewResultFromResult(result); err != nil {
		return nil, Malformed.Errorf("result: %w", err)
	}
	return newest, CheckResult(newest)
}

// CheckResult reports whether a delegate's result can be used: every
// interface is one, every address is one and points to an interface that is
// there. Errors are Malformed and name the field.
func CheckResult(r *current.Result) error {
	for i, iface := range r.Interfaces {
		if iface == nil || iface.Name == "" {
			return Malformed.Errorf("result: interfaces[%d] has no name", i)
		}
	}
	for i, ip := range r.IPs {
		if ip == nil || ip.Address.IP == nil {
			return Malformed.Errorf("result: ips[%d] has no address", i)
		}
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(r.Interfaces)) {
			return Malformed.Errorf("result: ips[%d].interface is %d, but there are %d interfaces", i, *ip.Interface, len(r.Interfaces))
		}
	}
	for i, route := range r.Routes {
		if route == nil || route.Dst.IP == nil {
			return Malformed.Errorf("result: routes[%d] has no dst", i)
		}
	}
	return nil
}

// PodInterfaces returns the names of a result's interfaces in the pod, and
// the asked name where the result names none.
func PodInterfaces(part Part) []string {
	var names []string
	for _, i := range part.Result.Interfaces {
		if i.Sandbox != "" {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		names = append(names, part.IfName)
	}
	return names
}
