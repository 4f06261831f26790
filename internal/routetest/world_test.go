package routetest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Addresses of the world, see the picture in doc_test.go.
func outsideAddr() pair { return pair{"203.0.113.10", "2001:db8:113::10"} }
func backendAddr() pair { return pair{"10.244.2.10", "fd00:244:2::10"} }
func serviceAddr() pair { return pair{"10.96.0.10", "fd00:96::10"} }

// strangerAddr is the node's own address outside of every range, as the one
// from which kubelet probes a pod.
func strangerAddr() pair { return pair{"198.51.100.1", "2001:db8:51::1"} }

// nodeLocalDNS is on every node, and always a cluster range.
const nodeLocalDNS = "169.254.20.10"

// Ranges of pods and Services.
func podRange() pair     { return pair{"10.244.0.0/16", "fd00:244::/32"} }
func serviceRange() pair { return pair{"10.96.0.0/16", "fd00:96::/64"} }

// segment is a secondary network's wire, with a router of its own that has
// two addresses on it.
type segment struct {
	name   string
	number int // 50: 10.50.0.0/24 and fd00:50::/64
	ns     *nettest.NS
}

func (s *segment) subnet() pair  { return s.pair("0/24", "/64") }
func (s *segment) gateway() pair { return s.pair("1", "1") }
func (s *segment) second() pair  { return s.pair("2", "2") }

func (s *segment) pair(four, six string) pair {
	return pair{fmt.Sprintf("10.%d.0.%s", s.number, four), fmt.Sprintf("fd00:%d::%s", s.number, six)}
}

// world is everything around the pod. One world has one pod at a time.
type world struct {
	shape     *shape
	dir       string
	node      *nettest.Node
	backend   *nettest.NS
	outside   *nettest.NS
	red, blue *segment
	pods      int
}

func newWorld(t *testing.T, s *shape) *world {
	t.Helper()
	w := &world{shape: s, dir: t.TempDir(), node: nettest.HostNode(t)}
	w.red, w.blue = &segment{name: "red", number: 50}, &segment{name: "blue", number: 60}
	w.backend, w.outside = nettest.Namespace(t, "backend-"), nettest.Namespace(t, "outside-")
	for _, seg := range w.segments() {
		seg.ns = nettest.Namespace(t, seg.name+"-")
		strict(t, seg.ns)
		forward(t, seg.ns)
	}
	strict(t, w.node.NS)
	strict(t, w.outside)
	strict(t, w.backend)
	w.plugNode(t)
	for i, seg := range w.segments() {
		w.plugSegment(t, i+1, seg)
	}
	for _, dir := range []string{"cluster", "net.d", "state", "ipam"} {
		must(t, os.MkdirAll(w.in(dir), 0o755))
	}
	w.writeNetworks(t)
	return w
}

func (w *world) in(name string) string { return filepath.Join(w.dir, name) }

func (w *world) segments() []*segment { return []*segment{w.red, w.blue} }

// strict makes a namespace drop what came by another link than the way back,
// and use IPv6 addresses at once.
func strict(t *testing.T, ns *nettest.NS) {
	t.Helper()
	sysctl(t, ns, "ipv4/conf/all/rp_filter", "1")
	sysctl(t, ns, "ipv4/conf/default/rp_filter", "1")
	promptIPv6(t, ns)
}

// promptIPv6 spares the links to come the second of duplicate detection.
func promptIPv6(t *testing.T, ns *nettest.NS) {
	t.Helper()
	sysctl(t, ns, "ipv6/conf/default/accept_dad", "0")
}

func forward(t *testing.T, ns *nettest.NS) {
	t.Helper()
	sysctl(t, ns, "ipv4/ip_forward", "1")
	sysctl(t, ns, "ipv6/conf/all/forwarding", "1")
}

// plugNode connects the node with the backend and the outside host.
func (w *world) plugNode(t *testing.T) {
	t.Helper()
	node := w.node.NS
	// Frames that only cross a bridge are not the node's to route or translate.
	for _, which := range []string{"iptables", "ip6tables", "arptables"} {
		sysctl(t, node, "bridge/bridge-nf-call-"+which, "0")
	}
	cable(t, port{ns: node, name: "up", addresses: []string{"172.31.0.1/24", "fd00:31::1/64"}},
		port{ns: w.outside, name: "node", addresses: []string{"172.31.0.2/24", "fd00:31::2/64"}})
	cable(t, port{ns: node, name: "peer", addresses: []string{"10.244.2.1/24", "fd00:244:2::1/64"}},
		port{ns: w.backend, name: "eth0", addresses: []string{"10.244.2.10/24", "fd00:244:2::10/64"}})
	addAddresses(t, node, "lo", strangerAddr().v4+"/32", strangerAddr().v6+"/128", nodeLocalDNS+"/32")
	addAddresses(t, w.outside, "lo", outsideAddr().v4+"/32", outsideAddr().v6+"/128")
	for f, all := range map[family]string{v4: "0.0.0.0/0", v6: "::/0"} {
		here := pair{"172.31.0.1", "fd00:31::1"}.of(f)
		addRoute(t, node, all, pair{"172.31.0.2", "fd00:31::2"}.of(f), "")
		addRoute(t, w.backend, all, pair{"10.244.2.1", "fd00:244:2::1"}.of(f), "")
		addRoute(t, w.outside, podRange().of(f), here, outsideAddr().of(f))
		addRoute(t, w.outside, strangerAddr().of(f)+pair{"/32", "/128"}.of(f), here, outsideAddr().of(f))
	}
	nft(t, node, fmt.Sprintf(`
		table inet cluster {
			chain service {
				type nat hook prerouting priority dstnat
				ip daddr %s dnat ip to %s
				ip6 daddr %s dnat ip6 to %s
			}
			chain pods {
				type filter hook forward priority filter
				iifname { "up", "peer" } accept
				ip saddr != %s drop
				ip6 saddr != %s drop
			}
		}`, serviceAddr().v4, backendAddr().v4, serviceAddr().v6, backendAddr().v6, podRange().v4, podRange().v6))
}

// plugSegment connects a segment's router with the segment and with the
// outside host. NAME0 in the node is a NIC on the segment, for macvlan.
func (w *world) plugSegment(t *testing.T, i int, seg *segment) {
	t.Helper()
	node := w.node.NS
	addBridge(t, node, seg.name)
	cable(t, port{ns: node, name: seg.name + "-router", bridge: seg.name},
		port{ns: seg.ns, name: "lan", addresses: append(seg.pair("1/24", "1/64").all(), seg.pair("2/24", "2/64").all()...)})
	sysctl(t, node, "ipv6/conf/default/disable_ipv6", "1")
	cable(t, port{ns: node, name: seg.name + "-nic", bridge: seg.name}, port{ns: node, name: seg.name + "0"})
	sysctl(t, node, "ipv6/conf/default/disable_ipv6", "0")
	here := pair{fmt.Sprintf("172.31.%d.1", i), fmt.Sprintf("fd00:31:%d::1", i)}
	there := pair{fmt.Sprintf("172.31.%d.2", i), fmt.Sprintf("fd00:31:%d::2", i)}
	cable(t, port{ns: seg.ns, name: "up", addresses: []string{here.v4 + "/24", here.v6 + "/64"}},
		port{ns: w.outside, name: seg.name, addresses: []string{there.v4 + "/24", there.v6 + "/64"}})
	for f, all := range map[family]string{v4: "0.0.0.0/0", v6: "::/0"} {
		addRoute(t, seg.ns, all, there.of(f), "")
		addRoute(t, w.outside, seg.subnet().of(f), here.of(f), outsideAddr().of(f))
	}
	nft(t, seg.ns, fmt.Sprintf(`
		table inet strict {
			chain segment {
				type filter hook prerouting priority filter
				iifname "lan" ip6 saddr != { %s, fe80::/10, :: } counter drop
			}
		}`, seg.subnet().v6))
}
