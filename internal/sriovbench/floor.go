package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// bare is the floor: the netlink calls without which the VF does not get to
// the pod and back, and IPAM. It knows beforehand where everything is and how
// it was, asks nothing that it can do without, and writes nothing down.
type bare struct {
	*machine
	knobs *knobs // nil = the network sets none
}

var _ network.Embedded = bare{}

// knobs are what the network has the PF set for the VF.
type knobs struct {
	vlan            int
	spoofchk, trust bool
}

// asked reads them from the network's keys.
func asked(more settings) knobs {
	vlan, _ := more["vlan"].(int)
	return knobs{vlan, more["spoofchk"] == "on", more["trust"] == "on"}
}

// Run implements network.Embedded.
func (b bare) Run(ctx context.Context, call network.Call) ([]byte, error) {
	pod, err := openPod(call.Netns)
	if err != nil {
		return nil, err
	}
	defer pod.close()
	if call.Command == "ADD" {
		return b.add(ctx, call, pod)
	}
	return nil, b.del(ctx, call, pod)
}

func (b bare) add(ctx context.Context, call network.Call, pod *bareNetns) ([]byte, error) {
	vf, err := netlink.LinkByName(b.vf.name)
	if err != nil {
		return nil, err
	}
	if b.knobs != nil {
		if err = b.set(*b.knobs); err != nil {
			return nil, err
		}
	}
	if err = move(nil, vf.Attrs().Index, int(pod.ns), call.IfName, mtu); err != nil {
		return nil, err
	}
	link, err := pod.LinkByName(call.IfName)
	if err != nil {
		return nil, err
	}
	if err = pod.LinkSetUp(link); err != nil {
		return nil, err
	}
	out, err := call.Exec(ctx, "host-local", call)
	if err != nil {
		return nil, err
	}
	return out, pod.address(link, out)
}

func (b bare) del(ctx context.Context, call network.Call, pod *bareNetns) error {
	if _, err := call.Exec(ctx, "host-local", call); err != nil {
		return err
	}
	link, err := pod.LinkByName(call.IfName)
	if err != nil {
		return err
	}
	if err = pod.LinkSetDown(link); err != nil {
		return err
	}
	if b.knobs != nil {
		if err = b.set(knobs{spoofchk: true}); err != nil { // what the driver begins with
			return err
		}
	}
	home, err := netns.Get()
	if err != nil {
		return err
	}
	return errors.Join(move(pod.sockets, link.Attrs().Index, int(home), b.vf.name, b.vf.mtu), home.Close())
}

// set has the PF set all knobs of the VF.
func (b bare) set(k knobs) error {
	return errors.Join(
		netlink.LinkSetVfVlan(b.link, b.vf.index, k.vlan),
		netlink.LinkSetVfSpoofchk(b.link, b.vf.index, k.spoofchk),
		netlink.LinkSetVfTrust(b.link, b.vf.index, k.trust))
}

// move moves a device to another namespace, under that name and with that
// MTU, in one message. The library needs three.
func move(sockets map[int]*nl.SocketHandle, index, to int, name string, mtu int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.Sockets = sockets
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("move a device and call it %s: %w", name, err)
	}
	return nil
}

// bareNetns is the pod's namespace, open.
type bareNetns struct {
	*netlink.Handle
	ns      netns.NsHandle
	sockets map[int]*nl.SocketHandle
}

func openPod(path string) (*bareNetns, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	socket, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, errors.Join(err, ns.Close())
	}
	return &bareNetns{handle, ns, map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}}, nil
}

func (n *bareNetns) close() {
	n.sockets[unix.NETLINK_ROUTE].Close()
	n.Close()
	_ = n.ns.Close() // opened for reading
}

// address sets what IPAM printed.
func (n *bareNetns) address(link netlink.Link, out []byte) error {
	parsed, err := create.CreateFromBytes(out)
	if err != nil {
		return err
	}
	result, err := current.NewResultFromResult(parsed)
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		if err = n.AddrAdd(link, &netlink.Addr{IPNet: &ip.Address}); err != nil {
			return err
		}
	}
	for _, r := range result.Routes {
		if err = n.RouteAdd(route(link, r, result.IPs[0].Gateway)); err != nil {
			return err
		}
	}
	return nil
}

func route(link netlink.Link, r *types.Route, gateway net.IP) *netlink.Route {
	if r.GW != nil {
		gateway = r.GW
	}
	return &netlink.Route{LinkIndex: link.Attrs().Index, Dst: &r.Dst, Gw: gateway}
}
