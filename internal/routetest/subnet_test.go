package routetest

import (
	"fmt"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Two NICs on one subnet are legal, and are two ways: each answers by itself
// what it was asked, from far away and from a neighbour.
func TestTwoNICsOnOneSubnetAnswerForThemselves(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		for name, networks := range map[string]string{
			"default on the cluster network": "red, red",
			"default moved":                  moved(w.red.gateway().all(), "red-default", "red-default"),
		} {
			p := w.newPod(t, networks)
			p.add(t)
			p.show(t)
			for _, nic := range []string{"net1", "net2"} {
				for _, f := range families() {
					for _, protocol := range []protocol{tcp(), udp(), pktinfo(), icmp()} {
						t.Run(fmt.Sprint(name, " ", nic, " ", f, " ", protocol.name), func(t *testing.T) {
							p.probe(t, probe{
								protocol: protocol, client: p.outside, server: p.ns, to: p.nics[nic].of(f),
								want: by(nic), seen: outsideAddr().of(f),
							})
							p.probe(t, probe{
								protocol: protocol, client: p.red.ns, from: nettest.From{Addr: p.red.gateway().of(f)},
								server: p.ns, to: p.nics[nic].of(f), want: by(nic), seen: p.red.gateway().of(f),
							})
						})
					}
				}
			}
			p.del(t)
		}
	})
}

// Who asks the segment for an address of the pod gets one answer, from the
// NIC that has it.
func TestEachNICAnswersARPForItself(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.attach(t, "red, red")
		for _, nic := range []string{"net1", "net2"} {
			want := []string{link(t, p.ns, nic).Attrs().HardwareAddr.String()}
			got := whoHas(t, p.red.ns, "lan", p.red.gateway().v4, p.nics[nic].v4, 1)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, the address of %s, is answered by %v, want %v", p.nics[nic].v4, nic, got, want)
			}
		}
		if w.shape.has(v4) {
			if got := whoHas(t, p.red.ns, "lan", p.red.gateway().v4, p.nics["eth0"].v4, 0); len(got) > 0 {
				t.Errorf("%s, the address of eth0, is answered on another segment by %v", p.nics["eth0"].v4, got)
			}
		}
	})
}

// A pod whose namespace is strict about the way back gets loose NICs, and its
// own addresses in what it says of itself.
func TestLeaksBelowIPAreClosed(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		p := w.newPod(t, "red-default, blue-default")
		for _, which := range []string{"all", "default"} {
			sysctl(t, p.ns, "ipv4/conf/"+which+"/rp_filter", "1")
		}
		p.add(t)
		for _, nic := range []string{"eth0", "net1", "net2"} {
			for name, want := range map[string]string{"arp_ignore": "1", "arp_announce": "2", "rp_filter": "2"} {
				if got := readSysctl(t, p.ns, "ipv4/conf/"+nic+"/"+name); got != want {
					t.Errorf("%s of %s is %s, want %s", name, nic, got, want)
				}
			}
		}
		p.del(t)
	})
}
