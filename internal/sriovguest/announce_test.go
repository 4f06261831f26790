package sriovguest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A neighbour that knows an address by the MAC of the pod that had it before
// learns the new one from ADD itself, without asking: by ARP and by NDP. The
// cluster network hears nothing of it.
func TestAnnouncements(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	for name, vf := range map[string]int{"first": 1, "second": 2, "mute": 3} {
		for family, subnet := range map[string]string{"4": "10.56.16.0/24", "6": "fd00:56::/64"} {
			m.network(name+family, obj{
				"type": "sriov", "deviceID": m.pfs[0].VFs[vf], "announce": name != "mute", "ipam": obj{"type": "fixipam", "subnet": subnet},
			})
		}
	}
	m.network("peer", obj{"type": "sriov", "deviceID": m.pfs[0].VFs[0], "ipam": m.ipamFrom("10.56.16.0/24", "10.56.16.100")})
	peer := m.pod("peer").add()
	peer.inPod("ip", "addr", "add", "fd00:56::100/64", "dev", "net1", "nodad")
	for family, address := range map[string]string{"4": "10.56.16.7", "6": "fd00:56::7"} {
		asking := fmt.Sprintf(`[{"name": "%%s%s", "cni-args": {"IP": "%s"}}]`, family, address)
		old := m.pod(fmt.Sprintf(asking, "first")).add()
		peer.ping("net1", address)
		contains(t, peer.neighbour(address), old.nic("net1").Mac)
		detach(old)
		time.Sleep(1500 * time.Millisecond) // an entry is locked for a second
		young := peer.learns(address, fmt.Sprintf(asking, "second"))
		if now := peer.inPod("ip", "neigh", "show", "dev", "eth0"); strings.Contains(now, address) {
			t.Errorf("eth0 has heard of %s: %q", address, now)
		}
		detach(young)
		time.Sleep(1500 * time.Millisecond)
		// It is the announcement that the peer has it from.
		mute := m.pod(fmt.Sprintf(asking, "mute")).add()
		contains(t, peer.neighbour(address), young.nic("net1").Mac)
		detach(mute)
	}
	detach(peer)
}

// learns adds a pod with networks, whose address this one learns from ADD. A
// link that comes up late is not announced on, by design, so several pods may be
// tried; without an announcement nothing changes what this one knows.
func (p *pod) learns(address, networks string) *pod {
	p.t.Helper()
	const tries = 12
	for range tries {
		young := p.machine.pod(networks).add()
		// It is on its way when ADD ends.
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if strings.Contains(p.neighbour(address), young.nic("net1").Mac) {
				return young
			}
		}
		detach(young)
	}
	p.t.Fatalf("%d pods came, and %q is all that is known of %s", tries, p.neighbour(address), address)
	return nil
}

// neighbour is what the pod's kernel knows of an address, by net1.
func (p *pod) neighbour(address string) string {
	p.t.Helper()
	return p.inPod("ip", "neigh", "show", address, "dev", "net1")
}
