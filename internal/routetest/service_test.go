package routetest

import (
	"fmt"
	"strings"
	"testing"
)

// A Service is reached by eth0 whatever else is attached, and whatever the
// attachments bring along.
func TestServiceIsReachedInEveryArrangement(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		both := w.red.gateway().all()
		for name, networks := range map[string]string{
			"default on the cluster network":      "red",
			"default moved":                       moved(both, "red-default"),
			"default moved, two secondaries":      moved(both, "red-default", "blue-default"),
			"two secondaries":                     "red, blue",
			"secondary pushes a default":          "red-default",
			"two push a default":                  "red-default, blue-default",
			"secondary pushes halves":             "red-halves",
			"halves are kept":                     moved(nil, "red-halves"),
			"secondary overlaps":                  "overlap",
			"secondary overlaps, default moved":   moved(both, "red-default", "overlap"),
			"secondary overlaps, halves, macvlan": "overlap, red-halves, blue-default",
		} {
			t.Run(name, func(t *testing.T) {
				p := w.attach(t, networks)
				p.show(t)
				p.reachService(t)
			})
		}
	})
}

// reachService probes the Service as an application does: unbound.
func (p *pod) reachService(t *testing.T) {
	t.Helper()
	for _, f := range p.shape.families {
		for _, protocol := range []protocol{tcp(), udp()} {
			t.Run(fmt.Sprint(f, " ", protocol.name), func(t *testing.T) {
				p.probe(t, probe{
					protocol: protocol, client: p.ns, server: p.backend,
					to: backendAddr().of(f), at: serviceAddr().of(f),
					want: by("eth0"), seen: p.nics["eth0"].of(f),
				})
			})
		}
	}
}

// The subnet of eth0 itself needs no configuration: a secondary that shadows
// a part of it takes no traffic to the node.
func TestSubnetOfTheClusterNetworkIsKept(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		if w.shape.name == "calico" {
			t.Skip("Calico's pods know no subnet, and no address of the node")
		}
		w.writeNetwork(t, "net.d", "shadow", obj{
			"type": "bridge", "bridge": "red",
			"ipam": obj{"type": "static", "addresses": []any{
				obj{"address": "10.244.1.14/28"}, obj{"address": "fd00:244:1::e/124"},
			}},
		})
		p := w.attach(t, "shadow", obj{"clusterCIDRs": nil})
		p.show(t)
		for _, f := range w.shape.families {
			for _, protocol := range []protocol{tcp(), udp(), icmp()} {
				t.Run(fmt.Sprint(f, " ", protocol.name), func(t *testing.T) {
					p.probe(t, probe{
						protocol: protocol, client: p.ns, server: p.node.NS,
						to: pair{"10.244.1.1", "fd00:244:1::1"}.of(f), want: by("eth0"), seen: p.nics["eth0"].of(f),
					})
				})
			}
		}
	})
}

// A secondary in the Service range takes nothing from the Services, and is
// named.
func TestOverlapIsNamed(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.attach(t, "red, overlap")
		for _, f := range w.shape.families {
			if !warns(p.stderr, "net2", serviceRange().of(f)) && !warns(p.stderr, "overlap", serviceRange().of(f)) {
				t.Errorf("no warning names the overlap of net2 with %s:\n%s", serviceRange().of(f), p.stderr)
			}
		}
		if q := w.newPod(t, "red, blue"); strings.Contains(string(q.ok(t, "ADD").Stderr), "overlap") {
			t.Error("a warning names an overlap where there is none")
		} else {
			q.del(t)
		}
	})
}

// warns reports whether one line of the log is a warning with all the words.
func warns(log string, words ...string) bool {
	for line := range strings.Lines(log) {
		found := strings.Contains(strings.ToLower(line), "warn")
		for _, word := range words {
			found = found && strings.Contains(line, word)
		}
		if found {
			return true
		}
	}
	return false
}
