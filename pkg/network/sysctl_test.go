package network

import (
	"encoding/json"
	"testing"
)

func TestListSets(t *testing.T) {
	const key = "ipv4/conf/net1/arp_ignore"
	for plugin, want := range map[string]bool{
		`{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_ignore":"0"}}`:                      true,
		`{"type":"tuning","sysctl":{"net.ipv4.conf.net1.arp_ignore":"0"}}`:                        true,
		`{"type":"tuning","sysctl":{"net/ipv4/conf/IFNAME/arp_ignore":"0"}}`:                      true,
		`{"type":"mine","args":{"cni":{"sysctl":{"net.ipv4.conf.IFNAME.arp_ignore":"0"}}}}`:       true,
		`{"type":"tuning","sysctl":{"net.core.somaxconn":"9","net.ipv4.conf.net1.arp_ignore":0}}`: true,
		`{"type":"tuning"}`:             false,
		`{"type":"tuning","sysctl":{}}`: false,
		`{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_announce":"2"}}`:  false,
		`{"type":"tuning","sysctl":{"net.ipv4.conf.net2.arp_ignore":"0"}}`:      false,
		`{"type":"tuning","sysctl":{"net.ipv4.conf.all.arp_ignore":"0"}}`:       false,
		`{"type":"tuning","sysctl":{"net.ipv6.conf.IFNAME.arp_ignore":"0"}}`:    false,
		`{"type":"tuning","sysctl":{"ipv4.conf.IFNAME.arp_ignore":"0"}}`:        false,
		`{"type":"odd","sysctl":"net.ipv4.conf.IFNAME.arp_ignore"}`:             false,
		`{"type":"odd","sysctl":["net.ipv4.conf.IFNAME.arp_ignore"]}`:           false,
		`{"type":"odd","args":{"cni":{"sysctl":7}}}`:                            false,
		`{"type":"odd","args":7,"sysctl":{"net.ipv4.conf.net1.arp_ignore":""}}`: false,
	} {
		l := &List{Plugins: []json.RawMessage{json.RawMessage(`{"type":"bridge"}`), json.RawMessage(plugin)}}
		if have := l.Sets("net1", key); have != want {
			t.Errorf("%s: %v", plugin, have)
		}
	}
	if (&List{}).Sets("net1", key) {
		t.Error("an empty list sets something")
	}
}

// An interface whose name has a dot: the plugin tuning reads each dot of a
// key as a slash, but not those of the name that it puts in for IFNAME.
func TestListSetsOfDottedInterface(t *testing.T) {
	l := &List{Plugins: []json.RawMessage{json.RawMessage(`{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_ignore":"0"}}`)}}
	if !l.Sets("net1.100", "ipv4/conf/net1.100/arp_ignore") {
		t.Error("IFNAME is not the interface")
	}
}
