package sriov

import (
	"encoding/json"
	"errors"
	"net"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Whatever comes in: no panic, an error of a kind that a caller knows or
// values that a VF can have, and what was accepted is accepted again.
func FuzzParseConf(f *testing.F) {
	f.Add([]byte(onVF(`"vlan":4094,"vlanQoS":7,"vlanProto":"802.1AD","mac":"CA:FE:C0:FF:EE:00"`)), "VLAN=0;MAC=02:00:00:00:00:01")
	f.Add([]byte(onPF(`"vf":0,"min_tx_rate":1,"max_tx_rate":0,"spoofchk":"on","trust":"off","link_state":"auto","mtu":68`)), "VF=65535")
	f.Add([]byte(onPF(`"pfOnly":true,"announce":false,"unsupported":"best-effort","logFile":"/l"`)), "a;b=;=c")
	f.Add([]byte(`{"args":{"cni":{"mac":"02:00:00:00:00:03","VF":"1","VLAN":5}},"runtimeConfig":{"mac":"0200.0000.0001","deviceID":"0000:01:1F.7"}}`), "")
	f.Add([]byte(`{"deviceID":"10000:01:10.0","dpdk":false,"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8"}]}}`), "VLAN=-1")
	f.Add([]byte(`{"Master":"ens1","VLAN":1,"vlan":null,"ipam":{"type":1}}`), "VLAN=99999999999999999999")
	f.Add([]byte(`[null`), "MAC")
	f.Fuzz(func(t *testing.T, stdin []byte, args string) {
		c, err := ParseConf(stdin, args)
		if err != nil {
			if !errors.Is(err, network.Invalid) && !errors.Is(err, network.Malformed) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		wantInRange(t, c)
		if _, err = decode(stdin); err != nil {
			t.Errorf("DEL would refuse it: %v", err)
		}
		again, err := ParseConf(stdin, args)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Errorf("the second time (-first +second):\n%s", diff)
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err = ParseConf(written, ""); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if diff := cmp.Diff(c, again, cmpopts.IgnoreFields(Conf{}, "Args", "PrevResult")); diff != "" {
			t.Errorf("%s (-first +again):\n%s", written, diff)
		}
	})
}

// wantInRange checks an accepted configuration by the documentation's words.
func wantInRange(t *testing.T, c *Conf) {
	t.Helper()
	within := func(key string, value *int, least, most int) {
		if value != nil && (*value < least || *value > most) {
			t.Errorf("%s %d", key, *value)
		}
	}
	within("vf", c.VF, 0, 65535)
	within("vlan", c.VLAN, 0, 4094)
	within("vlanQoS", c.VLANQoS, 0, 7)
	within("min_tx_rate", c.MinTxRate, 0, 1<<31-1)
	within("max_tx_rate", c.MaxTxRate, 0, 1<<31-1)
	if c.MTU != 0 {
		within("mtu", &c.MTU, 68, 65535)
	}
	for key, word := range map[string][]string{
		"spoofchk": {c.SpoofChk, "", "on", "off"}, "trust": {c.Trust, "", "on", "off"},
		"link_state": {c.LinkState, "", "auto", "enable", "disable"}, "unsupported": {c.Unsupported, "strict", "best-effort"},
		"vlanProto": {c.VLANProto, "", "802.1q", "802.1ad"},
	} {
		if !slices.Contains(word[1:], word[0]) {
			t.Errorf("%s %q", key, word[0])
		}
	}
	if c.MAC != "" {
		mac, err := net.ParseMAC(c.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() != c.MAC || slices.Max(mac) == 0 {
			t.Errorf("mac %q", c.MAC)
		}
	}
	if c.DeviceID != "" && !regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`).MatchString(c.DeviceID) {
		t.Errorf("deviceID %q", c.DeviceID)
	}
	if len(c.Master) > unix.IFNAMSIZ-1 {
		t.Errorf("master %q", c.Master)
	}
	alone := c.VLAN == nil && (c.VLANQoS != nil || c.VLANProto != "")
	untagged := c.VLAN != nil && *c.VLAN == 0 && (c.VLANQoS != nil && *c.VLANQoS != 0 || c.VLANProto == "802.1ad")
	upside := c.MinTxRate != nil && c.MaxTxRate != nil && *c.MaxTxRate != 0 && *c.MinTxRate > *c.MaxTxRate
	twice := c.DeviceID != "" && c.VF != nil || c.PFOnly && (c.setsAdmin() || c.VF != nil || c.DeviceID != "")
	none := c.DeviceID == "" && c.Master == ""
	if alone || untagged || upside || twice || none {
		t.Errorf("accepted: %s", settings(c))
	}
}

// Whatever a driver answers: no panic, and words that a Record can hold.
func FuzzReadVFList(f *testing.F) {
	f.Add(fullVF(0))
	f.Add(append(fullVF(0), fullVF(1)...))
	f.Add(rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_MAC, words(3))))
	f.Add(rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, words(1, 2, 3, 0xa888)))))
	f.Add(rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_LINK_STATE, words(0, -1)), rta(nl.IFLA_VF_TRUST, words(0, -1))))
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{5, 0, 1, 0, 9})
	f.Add(rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_STATS, []byte{7, 0, 7, 0, 1, 1, 1})))
	f.Fuzz(func(t *testing.T, list []byte) {
		vfs, err := readVFList(list)
		if err != nil && vfs != nil {
			t.Errorf("VFs beside the error %v", err)
		}
		for _, vf := range vfs {
			if mac, macErr := net.ParseMAC(vf.MAC); macErr != nil || len(mac) != 6 {
				t.Errorf("MAC %q", vf.MAC)
			}
			for _, word := range []string{vf.SpoofChk, vf.Trust} {
				if !slices.Contains([]string{"", "on", "off"}, word) {
					t.Errorf("word %q", word)
				}
			}
			if !slices.Contains([]string{"auto", "enable", "disable"}, vf.LinkState) || !slices.Contains([]string{"802.1q", "802.1ad"}, vf.Proto) {
				t.Errorf("link_state %q, protocol %q", vf.LinkState, vf.Proto)
			}
		}
	})
}
