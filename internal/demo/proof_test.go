package main

import (
	"net"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/demo/proof"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// testNetwork is a bridge of the node, with a NIC of the pod on one side and a
// peer on the other.
type testNetwork struct{ nic, bridge, gateway, pod string }

// plugNetwork builds the network by hand, without any CNI plugin.
func plugNetwork(t *testing.T, node *nettest.Node, pod *nettest.NS, n testNetwork) *peer {
	t.Helper()
	handle := must(t)(node.Handle())
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.bridge
	check(t, handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	check(t, raise(handle, n.bridge, cidr(t, n.gateway)))
	bridge, err := handle.LinkByName(n.bridge)
	check(t, err)
	attrs = netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = "host-"+n.nic, bridge.Attrs().Index
	check(t, handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: n.nic}))
	link, err := handle.LinkByName(n.nic)
	check(t, err)
	check(t, pod.Do(func() error { return moveHere(handle, link) }))
	check(t, raise(handle, "host-"+n.nic, nil))
	check(t, raise(must(t)(pod.Handle()), n.nic, cidr(t, n.pod)))
	check(t, awaitUp(handle, "host-"+n.nic))

	index := 0
	result := &current.Result{Interfaces: []*current.Interface{{Name: n.nic}}}
	p, err := neighbour(result, &current.IPConfig{Interface: &index, Address: *cidr(t, n.pod), Gateway: cidr(t, n.gateway).IP})
	check(t, err)
	plug(t, node, p, "to-"+n.nic)
	return p
}

func plug(t *testing.T, node *nettest.Node, p *peer, name string) {
	t.Helper()
	err := p.plug(node, name)
	if p.ns != nil {
		t.Cleanup(func() { check(t, p.ns.Close()) })
	}
	check(t, err)
}

// The packet proof holds on right wiring, and fails on wrong wiring: a route
// by another NIC, where the packets arrive all the same, and an unplugged peer.
func TestProofFailsOnWrongWiring(t *testing.T) {
	node, pod := nettest.HostNode(t), nettest.Namespace(t, "demo-")
	check(t, quiet(node.NS))
	check(t, forgiving(node))
	check(t, quiet(pod))
	plugNetwork(t, node, pod, testNetwork{nic: "eth0", bridge: "cluster0", gateway: "10.244.7.1/24", pod: "10.244.7.2/24"})
	storage := plugNetwork(t, node, pod, testNetwork{nic: "net1", bridge: "storage0", gateway: "192.168.50.1/24", pod: "192.168.50.2/24"})
	handle := must(t)(pod.Handle())
	eth0, err := handle.LinkByName("eth0")
	check(t, err)
	check(t, handle.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 244, 7, 1)}))

	there := toPeer(pod, "net1", storage)
	requireProof(t, pod, there, "")

	detour := &netlink.Route{
		LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 244, 7, 1),
		Dst: &net.IPNet{IP: storage.address.IP, Mask: net.CIDRMask(32, 32)},
	}
	check(t, handle.RouteAdd(detour))
	requireProof(t, pod, there, "by eth0, not net1")
	check(t, handle.RouteDel(detour))
	requireProof(t, pod, there, "")

	// Without a rule for it, the reply to another network follows main.
	outside := distant("outside", net.IPv4(203, 0, 113, 10))
	plug(t, node, outside, "to-outside")
	requireProof(t, pod, toPeer(pod, "eth0", outside), "")
	asked := &nic{Share: routing.Share{NIC: routing.NIC{Name: "net1"}}, addresses: []*net.IPNet{cidr(t, "192.168.50.2/24")}}
	requireProof(t, pod, fromPeer(outside, asked), "by eth0, not net1")

	nodeHandle := must(t)(node.Handle())
	cable, err := nodeHandle.LinkByName("to-net1")
	check(t, err)
	check(t, nodeHandle.LinkSetDown(cable))
	requireProof(t, pod, there, "got no reply")
	check(t, nodeHandle.LinkSetUp(cable))
	check(t, awaitUp(nodeHandle, "to-net1"))
	requireProof(t, pod, there, "")
}

// requireProof runs a proof; its complaint must contain the text, or be empty
// when that is.
func requireProof(t *testing.T, pod *nettest.NS, there proof.Trip, complaint string) {
	t.Helper()
	result, err := proof.Make(t.Context(), pod, there, 0)
	check(t, err)
	if wrong := result.Wrong(); (wrong == "") != (complaint == "") || !strings.Contains(wrong, complaint) {
		t.Fatalf("the proof says %q, want %q; NICs carried %v", wrong, complaint, result.Carried)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T) func(*netlink.Handle, error) *netlink.Handle {
	return func(handle *netlink.Handle, err error) *netlink.Handle {
		t.Helper()
		check(t, err)
		return handle
	}
}

func cidr(t *testing.T, text string) *net.IPNet {
	t.Helper()
	ip, network, err := net.ParseCIDR(text)
	check(t, err)
	return &net.IPNet{IP: ip, Mask: network.Mask}
}
