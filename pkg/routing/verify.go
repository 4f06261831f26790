package routing

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Pod is a pod's network namespace, as the kernel shows it. All calls go
// through one netlink handle; no thread changes its namespace.
type Pod struct {
	path   string
	handle *netlink.Handle
	index  map[string]int // interfaces by name, as State saw them last
}

// OpenPod opens the namespace at path.
func OpenPod(path string) (*Pod, error) {
	target, err := netns.GetFromPath(path)
	if err != nil {
		return nil, network.Missing.Errorf("open network namespace %s: %w", path, err)
	}
	defer target.Close()
	handle, err := netlink.NewHandleAt(target, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return &Pod{path: path, handle: handle}, nil
}

// Close gives the handle back.
func (p *Pod) Close() { p.handle.Close() }

// Verify reports what of a result the namespace lacks: every interface with
// a sandbox must exist, hold its addresses, and every route must be there
// (CNI 1.1 section 2, CHECK). Errors are of kind Missing and name all of it.
func (p *Pod) Verify(result *current.Result) error {
	links, err := p.links()
	if err != nil {
		return err
	}
	var missing []error
	for i, want := range result.Interfaces {
		if want.Sandbox == "" {
			continue
		}
		link, ok := links[want.Name]
		if !ok && (want.SocketPath != "" || want.PciID != "") {
			continue // a NIC without a kernel device: its plugin's CHECK knows
		}
		if !ok {
			missing = append(missing, network.Missing.Errorf("interface %s does not exist in %s", want.Name, p.path))
			continue
		}
		if err = p.verifyAddresses(link, result, i); err != nil {
			missing = append(missing, err)
		}
	}
	if len(result.Routes) == 0 {
		return errors.Join(missing...)
	}
	routes, err := p.dumpRoutes()
	if err != nil {
		return errors.Join(append(missing, err)...)
	}
	for _, want := range result.Routes {
		// Without a table any will do: sbr moves routes and leaves its result as it was.
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return (want.Table == nil || r.Table == *want.Table) && sameRoute(&r, want)
		}) {
			missing = append(missing, network.Missing.Errorf("route to %s%s is missing in %s", &want.Dst, via(want.GW), p.path))
		}
	}
	return errors.Join(missing...)
}

func (p *Pod) links() (map[string]netlink.Link, error) {
	list, err := retried(p.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces of %s: %w", p.path, err)
	}
	links := map[string]netlink.Link{}
	for _, l := range list {
		links[l.Attrs().Name] = l
	}
	return links, nil
}

func (p *Pod) verifyAddresses(link netlink.Link, result *current.Result, index int) error {
	have, err := retried(func() ([]netlink.Addr, error) { return p.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses of %s in %s: %w", link.Attrs().Name, p.path, err)
	}
	for _, ip := range result.IPs {
		if ip.Interface == nil || *ip.Interface != index || hasAddress(have, ip.Address.IP) {
			continue
		}
		return network.Missing.Errorf("interface %s in %s has lost its address %s", link.Attrs().Name, p.path, &ip.Address)
	}
	return nil
}

func hasAddress(have []netlink.Addr, want net.IP) bool {
	for _, a := range have {
		if a.IP.Equal(want) {
			return true
		}
	}
	return false
}

func via(gw net.IP) string {
	if gw == nil {
		return ""
	}
	return " via " + gw.String()
}

// sameRoute compares destination and gateway; a route of several nexthops
// has each of their gateways.
func sameRoute(have *netlink.Route, want *types.Route) bool {
	if have.Dst == nil || !have.Dst.IP.Equal(want.Dst.IP.Mask(want.Dst.Mask)) || !sameMask(have.Dst.Mask, want.Dst.Mask) {
		return false
	}
	if want.GW == nil || have.Gw.Equal(want.GW) {
		return true
	}
	for _, hop := range have.MultiPath {
		if hop.Gw.Equal(want.GW) {
			return true
		}
	}
	return false
}

func sameMask(a, b net.IPMask) bool {
	onesA, bitsA := a.Size()
	onesB, bitsB := b.Size()
	return onesA == onesB && bitsA == bitsB
}

// retried repeats a dump that the kernel interrupted: such a dump returns
// part of the truth and ErrDumpInterrupted.
func retried[T any](dump func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		out, err := dump()
		if err == nil || try == 10 || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
}
