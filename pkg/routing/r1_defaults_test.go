package routing

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pair is a pod with eth0 of the bridge shape and net1, on subnets of both
// families, with a route of its own to 192.0.2.0/25.
func pairWorld() *world {
	w := &world{kernel: newKernel()}
	w.makeCluster()
	w.before = w.snapshot()
	p := &part{ifname: "net1"}
	w.parts = append(w.parts, p)
	w.nic("net1", "10.50.1.2/24", "fd50::2/64")
	w.do(op{kind: opRoute, route: direct("net1", netip.MustParsePrefix("192.0.2.0/25"))})
	p.claims(w, true, "net1")
	return w
}

func asked(list string) *[]netip.Addr {
	out := []netip.Addr{}
	for _, a := range fields(list) {
		out = append(out, netip.MustParseAddr(a))
	}
	return &out
}

// An error says which network, on which interface, what is wrong with the
// gateway, and what to write instead.
func TestDefaultRouteErrors(t *testing.T) {
	for name, test := range map[string]struct {
		asked string
		prune func(w *world)
		words string
	}{
		"out of reach":      {"198.51.100.1", nil, `"shop/n1" (net1) "default-route" 198.51.100.1 net1 reaches [10.50.1.0/24] directly name one that is`},
		"out of reach, six": {"2001:db8::1", nil, `"shop/n1" (net1) 2001:db8::1 net1 reaches [fd50::/64] directly name one`},
		"on eth0":           {"10.244.1.1", nil, `(net1) 10.244.1.1 reaches [10.50.1.0/24]`},
		"its own address":   {"10.50.1.1 fd50::2", nil, `(net1) fd50::2 the address of net1 itself`},
		"no such family": {"fd50::1", func(w *world) {
			w.Addresses = w.Addresses[:len(w.Addresses)-1]
		}, `(net1) fd50::1 net1 has no IPv6 address; name a gateway of a family`},
		"no kernel device":             {"10.50.1.1", func(w *world) { w.Links = w.Links[:1] }, `(net1) "default-route" has no kernel device take the key away, or give it to another network`},
		"no kernel device, none named": {"", func(w *world) { w.Links = w.Links[:1] }, `(net1) "default-route" has no kernel device`},
		"down":                         {"10.50.1.1", func(w *world) { w.setDown("net1") }, `(net1) 10.50.1.1 net1`},
	} {
		t.Run(name, func(t *testing.T) {
			w := pairWorld()
			w.parts[1].asked = asked(test.asked)
			if test.prune != nil {
				test.prune(w)
			}
			_, err := Decide(w.input())
			if !errors.Is(err, network.Invalid) {
				t.Fatalf("error %v", err)
			}
			contains(t, err.Error(), test.words)
		})
	}
}

// contains looks for what is between the spaces of `words` one by one, so
// that a message may say more.
func contains(t *testing.T, message, words string) {
	t.Helper()
	rest := message
	for _, word := range fields(words) {
		_, after, found := strings.Cut(rest, word)
		if !found {
			t.Fatalf("no %q, in this order, in: %s", word, message)
		}
		rest = after
	}
}

func TestDefaultRouteGateways(t *testing.T) {
	for name, list := range map[string]string{
		"one family":          "10.50.1.1",
		"both":                "10.50.1.1 fd50::1",
		"several":             "10.50.1.9 fd50::9 10.50.1.1 10.50.1.8",
		"link-local":          "fe80::1",
		"by a route to there": "192.0.2.1",
	} {
		t.Run(name, func(t *testing.T) {
			w := pairWorld()
			w.parts[1].asked = asked(list)
			complain(t, w, "")
			plan, err := Decide(w.input())
			if err != nil {
				t.Fatal(err)
			}
			for _, ipv6 := range families() {
				var want, have []netip.Addr
				for _, a := range *w.parts[1].asked {
					if a.Is6() == ipv6 {
						want = append(want, a)
					}
				}
				carrier := plan.carrier(ipv6)
				if carrier.Asked != (len(want) > 0) {
					t.Errorf("%s: %+v", familyName(ipv6), carrier)
				}
				for i, r := range carrier.Routes {
					if have = append(have, r.Gateway); carrier.Asked && (r.Metric != plainMetric(r.Dst)+i || r.Gateway != want[i]) {
						t.Errorf("route %d is %q, want by %s", i, &r, want[i])
					}
				}
				if carrier.Asked && len(have) != len(want) {
					t.Errorf("gateways %v, want %v", have, want)
				}
			}
		})
	}
}

// A family that the cluster network lacks goes to the first attachment that
// has it, and the administrator hears of it; so does who asked for nothing.
func TestDefaultRouteWarnings(t *testing.T) {
	w := pairWorld()
	w.before.Routes = nil
	w.Routes = nil
	w.do(op{kind: opRoute, route: direct("net1", everything(false))})
	plan, err := Decide(w.input())
	if err != nil || len(plan.Warnings) == 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	contains(t, plan.Warnings[0], `no IPv4 default route: "shop/n1" (net1) carries it`)

	w = pairWorld()
	w.parts[1].asked = asked("")
	if plan, err = Decide(w.input()); err != nil || len(plan.Warnings) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	contains(t, plan.Warnings[0], `"shop/n1" (net1) "default-route" names no gateway the cluster network keeps it`)
	if plan.carrier(false).NIC != "eth0" || plan.carrier(true).NIC != "eth0" {
		t.Errorf("%+v", plan.Carriers)
	}
}
