package sriovguest

import (
	"strings"
	"testing"
)

// Every knob that igb has is set, shows in the PF and in the pod, and is taken
// back.
func TestKnobs(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("knobs", obj{
		"type": "sriov", "deviceID": m.pfs[1].VFs[3], "vlan": 100, "vlanQoS": 3, "mac": "02:11:22:33:44:55",
		"spoofchk": "off", "trust": "on", "mtu": 1400, "max_tx_rate": 100, "min_tx_rate": 0, "ipam": m.ipam("10.56.2.0/24"),
	})
	a := m.pod("knobs").add()
	contains(t, m.cards(), "VF 3 {MAC:02:11:22:33:44:55 VLAN:100 QoS:3 Proto:802.1q SpoofChk:off Trust:on LinkState:auto MinTxRate:0 MaxTxRate:100}")
	contains(t, a.inPod("ip", "link", "show", "net1"), "mtu 1400", "02:11:22:33:44:55")
	if nic := a.nic("net1"); nic.Mac != "02:11:22:33:44:55" || nic.Mtu != 1400 {
		t.Errorf("the result has %+v", nic)
	}
	a.do("CHECK")
	detach(a)
}

// A MAC address by each of its ways, the nearer to the pod first; it works in
// the pod, not only in the PF's table.
func TestMACs(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("mac", obj{
		"type": "sriov", "master": m.pfs[0].Name, "mac": "02:00:00:00:00:01", "capabilities": obj{"mac": true}, "ipam": m.ipam("10.56.5.0/24"),
	})
	byConf := m.pod("mac").add()
	byArgs := m.pod(`[{"name": "mac", "cni-args": {"MAC": "02:00:00:00:00:02"}}]`).add()
	byRuntime := m.pod(`[{"name": "mac", "mac": "02:00:00:00:00:03", "cni-args": {"MAC": "02:00:00:00:00:04"}}]`).add()
	for p, mac := range map[*pod]string{byConf: "02:00:00:00:00:01", byArgs: "02:00:00:00:00:02", byRuntime: "02:00:00:00:00:03"} {
		contains(t, p.inPod("ip", "link", "show", "net1"), mac)
		contains(t, m.cards(), "MAC:"+mac)
		p.do("CHECK")
	}
	byArgs.ping("net1", byRuntime.address("net1"))
	byConf.ping("net1", byArgs.address("net1"))
	// One that is taken is refused by the name of who has it, and leaves nothing.
	e := m.pod(`[{"name": "mac", "mac": "02:00:00:00:00:02"}]`).refused("ADD")
	if e.Code != 7 {
		t.Errorf("code %d, want 7", e.Code)
	}
	contains(t, e.Msg, "mac 02:00:00:00:00:02", "pod default/"+strings.ToLower(byArgs.id))
	contains(t, m.pod(`[{"name": "mac", "mac": "52:54:00:00:01:00"}]`).refused("ADD").Msg, "is PF "+m.pfs[0].Name+"'s own")
	detach(byConf, byArgs, byRuntime)
}

// Again and again on one VF: what the PF fixed for one pod is not in the way of
// the next.
func TestOneVFManyPods(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	m.network("free", obj{"type": "sriov", "master": m.pfs[0].Name, "vf": 0, "ipam": m.ipam("10.56.6.0/24")})
	peer := m.pod("free").add()
	for _, mac := range []string{"02:00:00:00:01:01", "02:00:00:00:01:02", "", "02:00:00:00:01:03"} {
		conf := obj{"type": "sriov", "deviceID": m.pfs[0].VFs[6], "ipam": m.ipamFrom("10.56.6.0/24", "10.56.6.99")}
		if mac != "" {
			conf["mac"] = mac
		}
		m.network("one", conf)
		p := m.pod("one").add()
		contains(t, p.inPod("ip", "link", "show", "net1"), mac)
		peer.ping("net1", p.address("net1"))
		detach(p)
	}
	detach(peer)
}

// What igb's driver does not have is refused by its name and the key's, and
// nothing of the others stays; or it is a warning.
func TestUnsupportedKnobs(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	for key, value := range map[string]any{"link_state": "enable", "vlanProto": "802.1ad", "min_tx_rate": 10} {
		conf := obj{"type": "sriov", "master": m.pfs[0].Name, "vlan": 30, "trust": "on", key: value, "ipam": m.ipam("10.56.7.0/24")}
		m.network("strict", conf)
		p := m.pod("strict")
		e := p.refused("ADD")
		if e.Code != 7 {
			t.Errorf("%s: code %d, want 7", key, e.Code)
		}
		contains(t, e.Msg, "driver igb", strings.TrimSuffix(key, "Proto"))
		if key == "min_tx_rate" {
			continue // igb knows the knob, and refuses the value
		}
		conf["unsupported"] = "best-effort"
		m.network("lax", conf)
		q := m.pod("lax")
		outcome := q.do("ADD")
		contains(t, string(outcome.Stderr), "WARN", "driver igb cannot set "+strings.TrimSuffix(key, "Proto"))
		contains(t, m.cards(), "Trust:on")
		q.do("CHECK")
		detach(q)
	}
}

// Values out of range are refused before anything happens.
func TestBadValues(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	for name, conf := range map[string]obj{
		"vlan 4095":               {"vlan": 4095},
		`spoofchk "no"`:           {"spoofchk": "no"},
		"vf 7":                    {"vf": 7},
		"mtu 60000":               {"mtu": 60000},
		`mac "01:`:                {"mac": "01:00:5e:00:00:01"},
		`deviceID "0000:01:1f.7"`: {"deviceID": "0000:01:1f.7"},
		`deviceID "0000:01:00.0"`: {"deviceID": "0000:01:00.0"},
		`"host-locla" is in none`: {"ipam": obj{"type": "host-locla"}},
		"infinibandGUID":          {"infinibandGUID": "c2:11:22:33:44:55:66:77"},
		`master "lo"`:             {"master": "lo"},
		`master "eth99"`:          {"master": "eth99"},
	} {
		conf["type"] = "sriov"
		if conf["master"] == nil && conf["deviceID"] == nil {
			conf["master"] = m.pfs[0].Name
		}
		m.network("bad", conf)
		e := m.pod("bad").refused("ADD")
		if e.Code != 7 {
			t.Errorf("%s: code %d, want 7: %s", name, e.Code, e.Msg)
		}
		contains(t, e.Msg, name)
	}
}

// What the node itself uses is not taken from it, however the VF is named; a key
// that nobody knows is said.
func TestVFOfTheNode(t *testing.T) {
	m := newMachine(t)
	m.leavesNothing()
	dev := m.netdev(m.pfs[0].VFs[1])
	m.onNode("ip", "link", "add", "br9", "type", "bridge")
	m.onNode("ip", "link", "set", dev, "master", "br9")
	m.network("index", obj{"type": "sriov", "master": m.pfs[0].Name, "vf": 1})
	m.network("address", obj{"type": "sriov", "deviceID": m.pfs[0].VFs[1], "vlna": 7})
	for _, name := range []string{"index", "address"} {
		e := m.pod(name).refused("ADD")
		if e.Code != 7 {
			t.Errorf("%s: code %d, want 7", name, e.Code)
		}
		contains(t, e.Msg, "VF 1 of PF "+m.pfs[0].Name, "is in a bridge or bond of the node", "stays on the node")
	}
	contains(t, m.onNode("ip", "link", "show", dev), "master br9")
	m.onNode("ip", "link", "del", "br9")
	// An address is in the way of who only names an index.
	m.onNode("ip", "addr", "add", "192.0.2.1/32", "dev", dev)
	contains(t, m.pod("index").refused("ADD").Msg, "has the address 192.0.2.1/32 on the node")
	p := m.pod("address")
	contains(t, string(p.do("ADD").Stderr), "is not known and has no effect", "key=vlna")
	detach(p)
}
