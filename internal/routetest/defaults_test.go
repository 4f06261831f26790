package routetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// variant is a pod's networks and the defaults that main has then.
type variant struct {
	name     string
	networks string
	v4, v6   []string // "NIC" for eth0's own, "NIC GATEWAY" for others
}

func (v variant) defaults(f family) []string {
	if f == v6 {
		return v.v6
	}
	return v.v4
}

// Main has one default of a family, that of the one NIC that is to carry it,
// and what no other route is for leaves by it.
func TestDefaultRouteIsTheOneAskedFor(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		one, two := w.red.gateway(), w.red.second()
		own4, own6 := []string{"net1 " + one.v4}, []string{"net1 " + one.v6}
		kept4, kept6 := []string{"eth0"}, []string{"eth0"}
		lent4 := kept4 // where the cluster network has no IPv4: the first that has a default
		if !w.shape.has(v4) {
			kept4, lent4 = nil, own4
		}
		for _, v := range []variant{
			{"cluster network keeps both", "red", kept4, kept6},
			{"secondary's own do not stay", "red-default, blue-default", lent4, kept6},
			{"IPv4 moved", moved([]string{one.v4}, "red-default", "blue-default"), own4, kept6},
			{"IPv6 moved", moved([]string{one.v6}, "red-default", "blue-default"), lent4, own6},
			{"both moved", moved(one.all(), "red-default", "blue-default"), own4, own6},
			{"both moved to a network without", moved(one.all(), "red"), own4, own6},
			{"gateways other than the network's", moved(two.all(), "red-default"), []string{"net1 " + two.v4}, []string{"net1 " + two.v6}},
			{"own ones kept", moved(nil, "red-default", "blue-default"), own4, own6},
			{
				"several gateways", moved([]string{two.v4, one.v4, two.v6, one.v6}, "red-default"),
				[]string{"net1 " + two.v4, "net1 " + one.v4}, []string{"net1 " + two.v6, "net1 " + one.v6},
			},
		} {
			t.Run(v.name, func(t *testing.T) {
				p := w.attach(t, v.networks)
				p.show(t)
				for _, f := range families() {
					if diff := cmp.Diff(v.defaults(f), p.defaults(t, f)); diff != "" {
						t.Errorf("%s defaults of main: want(-) got(+):\n%s", f, diff)
					}
				}
				p.reachOutside(t, v)
			})
		}
	})
}

// reachOutside probes the outside host as the variant says.
func (p *pod) reachOutside(t *testing.T, v variant) {
	t.Helper()
	for _, f := range families() {
		if len(v.defaults(f)) == 0 {
			continue
		}
		nic, _, _ := strings.Cut(v.defaults(f)[0], " ")
		for _, protocol := range []protocol{tcp(), icmp()} {
			t.Run(fmt.Sprint(f, " ", protocol.name), func(t *testing.T) {
				p.probe(t, probe{
					protocol: protocol, client: p.ns, server: p.outside, to: outsideAddr().of(f),
					want: by(nic), seen: p.nics[nic].of(f),
				})
			})
		}
	}
}

// defaults are main's default routes, best first. Two of one metric are an
// error.
func (p *pod) defaults(t *testing.T, f family) []string {
	t.Helper()
	var found []netlink.Route
	for _, route := range routes(t, p.ns, unix.RT_TABLE_MAIN) {
		if ones, _ := route.Dst.Mask.Size(); ones == 0 && familyOf(route.Dst.IP) == f {
			found = append(found, route)
		}
	}
	slices.SortStableFunc(found, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	var out []string
	for i, route := range found {
		if len(route.MultiPath) > 0 || i > 0 && route.Priority == found[i-1].Priority {
			t.Errorf("two %s defaults have one metric: %v", f, found)
		}
		text := p.deviceOf(t, route.LinkIndex)
		if text != "eth0" {
			text += " " + route.Gw.String()
		}
		out = append(out, text)
	}
	return out
}

// Halves count as a default: they do not stay, unless they are asked for.
func TestHalvesAreADefault(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		four := []string{"eth0"}
		if !w.shape.has(v4) {
			four = []string{"net1"}
		}
		for _, v := range []variant{
			{"do not stay", "red-halves", four, []string{"eth0"}},
			{"kept", moved(nil, "red-halves"), []string{"net1"}, []string{"net1"}},
		} {
			t.Run(v.name, func(t *testing.T) {
				p := w.attach(t, v.networks)
				p.show(t)
				p.reachOutside(t, v)
			})
		}
	})
}

// A gateway that the NIC cannot reach is the pod's mistake, and the ADD leaves
// nothing behind.
func TestGatewayOffLinkIsRefused(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.newPod(t, "red")
		p.add(t) // the cluster network's bridge stays
		p.del(t)
		for _, gateway := range []string{"192.0.2.77", "2001:db8:77::1", w.blue.gateway().v4} {
			t.Run(gateway, func(t *testing.T) {
				p = w.newPod(t, moved([]string{gateway}, "red-default", "blue-default"))
				before := p.snapshot(t)
				p.refused(t, gateway)
				nettest.RequireSame(t, before, p.snapshot(t))
			})
		}
	})
}

// refused demands that ADD fails with CNI's code 7, invalid configuration, and
// names something.
func (p *pod) refused(t *testing.T, words ...string) {
	t.Helper()
	e := p.call(t, "ADD").Error()
	if e == nil {
		t.Fatal("ADD succeeded, want code 7")
	}
	if e.Code != 7 {
		t.Errorf("code %d, want 7: %s", e.Code, e.Msg)
	}
	for _, word := range words {
		if !strings.Contains(e.Msg, word) {
			t.Errorf("the error does not name %q: %s", word, e.Msg)
		}
	}
}

// snapshot is everything that an ADD could leave behind, but host-local's own
// notes, which stay by design.
func (p *pod) snapshot(t *testing.T) string {
	t.Helper()
	return nettest.RequireSnapshot(t, nettest.SnapshotOptions{
		Namespaces: map[string]string{"pod": p.ns.Path(), "node": p.node.Path()},
		Dirs:       []nettest.SnapshotDir{{Path: p.in("state"), Label: "state", Files: nettest.FileName}},
	})
}
