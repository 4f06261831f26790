package sriov

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rta is a netlink attribute as the kernel lays it out: length and kind, its
// parts, and zeros up to the next word.
func rta(kind int, parts ...[]byte) []byte {
	size := unix.SizeofRtAttr
	for _, part := range parts {
		size += len(part)
	}
	out := binary.NativeEndian.AppendUint16(nil, uint16(size))
	out = binary.NativeEndian.AppendUint16(out, uint16(kind))
	for _, part := range parts {
		out = append(out, part...)
	}
	return append(out, make([]byte, (4-size%4)%4)...)
}

// words are 32-bit numbers in the machine's order.
func words(values ...int) []byte {
	var out []byte
	for _, value := range values {
		out = binary.NativeEndian.AppendUint32(out, uint32(value))
	}
	return out
}

func long(value uint64) []byte { return binary.NativeEndian.AppendUint64(nil, value) }

// vfMAC is struct ifla_vf_mac: an address of MAX_ADDR_LEN.
func vfMAC(index int, mac ...byte) []byte {
	return append(words(index), append(mac, make([]byte, 32-len(mac))...)...)
}

// vlanInfo is struct ifla_vf_vlan_info: the protocol is in network order.
func vlanInfo(index, vlan, qos int, proto uint16) []byte {
	return append(binary.BigEndian.AppendUint16(words(index, vlan, qos), proto), 0, 0)
}

const nested = unix.NLA_F_NESTED

// fullVF is a VF as the kernel reports it, with what the plugin does not read.
func fullVF(index int) []byte {
	return rta(nl.IFLA_VF_INFO|nested,
		rta(nl.IFLA_VF_MAC, vfMAC(index, 2, 0, 0, 0, 0xab, byte(index))),
		rta(unix.IFLA_VF_BROADCAST, make([]byte, 32)),
		rta(nl.IFLA_VF_VLAN, words(index, 100, 3)),
		rta(nl.IFLA_VF_TX_RATE, words(index, 200)),
		rta(nl.IFLA_VF_SPOOFCHK, words(index, 1)),
		rta(nl.IFLA_VF_LINK_STATE, words(index, 1)),
		rta(nl.IFLA_VF_RATE, words(index, 10, 200)),
		rta(nl.IFLA_VF_RSS_QUERY_EN, words(index, -1)),
		rta(nl.IFLA_VF_TRUST, words(index, 0)),
		rta(nl.IFLA_VF_VLAN_LIST|nested, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(index, 100, 3, unix.ETH_P_8021AD))),
		rta(nl.IFLA_VF_STATS|nested,
			rta(unix.IFLA_VF_STATS_RX_PACKETS, long(11)), rta(unix.IFLA_VF_STATS_TX_PACKETS, long(1<<40)),
			rta(unix.IFLA_VF_STATS_RX_BYTES, long(13)), rta(unix.IFLA_VF_STATS_TX_BYTES, long(14)),
			rta(unix.IFLA_VF_STATS_BROADCAST, long(15)), rta(unix.IFLA_VF_STATS_MULTICAST, long(16)),
			rta(unix.IFLA_VF_STATS_PAD), // where 64 bits must be aligned
			rta(unix.IFLA_VF_STATS_RX_DROPPED, long(17)), rta(unix.IFLA_VF_STATS_TX_DROPPED, long(18))),
	)
}

func TestReadVFs(t *testing.T) {
	plain := Admin{MAC: zeroMAC, Proto: proto8021Q, LinkState: linkAuto}
	mac := rta(nl.IFLA_VF_MAC, vfMAC(3))
	vf := func(change func(*VF), attrs ...[]byte) struct {
		list []byte
		want []VF
	} {
		want := VF{Index: 3, Admin: plain}
		change(&want)
		return struct {
			list []byte
			want []VF
		}{rta(nl.IFLA_VF_INFO|nested, append([][]byte{mac}, attrs...)...), []VF{want}}
	}
	same := func(*VF) {}
	full := func(index int, address string) VF {
		return VF{
			Index: index, Admin: Admin{
				MAC: address, VLAN: 100, QoS: 3, Proto: proto8021AD, SpoofChk: on, Trust: off, LinkState: linkEnable, MinTxRate: 10, MaxTxRate: 200,
			},
			Counters: Counters{RxPackets: 11, TxPackets: 1 << 40, RxBytes: 13, TxBytes: 14, RxDropped: 17, TxDropped: 18},
		}
	}
	for name, c := range map[string]struct {
		list []byte
		want []VF
	}{
		"none":                 {nil, nil},
		"all of two VFs":       {append(fullVF(0), fullVF(255)...), []VF{full(0, "02:00:00:00:ab:00"), full(255, "02:00:00:00:ab:ff")}},
		"nothing of a VF":      {rta(nl.IFLA_VF_INFO), []VF{{Index: -1, Admin: plain}}},
		"its index alone":      vf(same),
		"an attribute unknown": vf(same, rta(99, words(3, 7))),

		"802.1q by its number":                 vf(same, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(3, 5, 0, unix.ETH_P_8021Q)))),
		"802.1ad":                              vf(func(v *VF) { v.Proto = proto8021AD }, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(3, 5, 0, unix.ETH_P_8021AD)))),
		"802.1ad in the other order is none":   vf(same, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(3, 5, 0, 0xa888)))),
		"802.1ad as the second of a list":      vf(func(v *VF) { v.Proto = proto8021AD }, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(3, 5, 0, unix.ETH_P_8021Q)), rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(3, 6, 0, unix.ETH_P_8021AD)))),
		"a VLAN list without protocol":         vf(same, rta(nl.IFLA_VF_VLAN_LIST, rta(nl.IFLA_VF_VLAN_INFO, words(3, 5, 0)))),
		"an empty VLAN list":                   vf(same, rta(nl.IFLA_VF_VLAN_LIST)),
		"spoofchk and trust that are not had":  vf(same, rta(nl.IFLA_VF_SPOOFCHK, words(3, -1)), rta(nl.IFLA_VF_TRUST, words(3, -1))),
		"spoofchk and trust of another number": vf(same, rta(nl.IFLA_VF_SPOOFCHK, words(3, 2)), rta(nl.IFLA_VF_TRUST, words(3, 2))),
		"spoofchk off, trust on":               vf(func(v *VF) { v.SpoofChk, v.Trust = off, on }, rta(nl.IFLA_VF_SPOOFCHK, words(3, 0)), rta(nl.IFLA_VF_TRUST, words(3, 1))),
		"link_state auto":                      vf(same, rta(nl.IFLA_VF_LINK_STATE, words(3, 0))),
		"link_state enable":                    vf(func(v *VF) { v.LinkState = linkEnable }, rta(nl.IFLA_VF_LINK_STATE, words(3, 1))),
		"link_state disable":                   vf(func(v *VF) { v.LinkState = linkDisable }, rta(nl.IFLA_VF_LINK_STATE, words(3, 2))),
		"link_state of another number":         vf(same, rta(nl.IFLA_VF_LINK_STATE, words(3, 3))),
		"link_state that is not had":           vf(same, rta(nl.IFLA_VF_LINK_STATE, words(3, -1))),
		"the old limit is not the new":         vf(same, rta(nl.IFLA_VF_TX_RATE, words(3, 100))),
		"attributes marked as nested":          vf(func(v *VF) { v.VLAN, v.QoS = 5, 6 }, rta(nl.IFLA_VF_VLAN|nested, words(3, 5, 6))),

		"a short address":         {rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_MAC, vfMAC(3, 2)[:sizeVFMAC-4])), []VF{{Index: -1, Admin: plain}}},
		"a short VLAN":            vf(same, rta(nl.IFLA_VF_VLAN, words(3, 5))),
		"short rates":             vf(same, rta(nl.IFLA_VF_RATE, words(3, 5))),
		"a short spoofchk":        vf(same, rta(nl.IFLA_VF_SPOOFCHK, words(3))),
		"an empty trust":          vf(same, rta(nl.IFLA_VF_TRUST)),
		"a short link_state":      vf(same, rta(nl.IFLA_VF_LINK_STATE, words(3))),
		"no counters":             vf(same, rta(nl.IFLA_VF_STATS)),
		"a structure that grew":   vf(func(v *VF) { v.VLAN, v.QoS = 5, 6 }, rta(nl.IFLA_VF_VLAN, words(3, 5, 6, 7))),
		"the largest rates":       vf(func(v *VF) { v.MinTxRate, v.MaxTxRate = 1<<31-1, 1<<31-1 }, rta(nl.IFLA_VF_RATE, words(3, 1<<31-1, 1<<31-1))),
		"the largest counter":     vf(func(v *VF) { v.RxBytes = 1<<64 - 1 }, rta(nl.IFLA_VF_STATS, rta(unix.IFLA_VF_STATS_RX_BYTES, long(1<<64-1)))),
		"counters with groups'":   vf(func(v *VF) { v.RxBytes = 5 }, rta(nl.IFLA_VF_STATS, rta(unix.IFLA_VF_STATS_RX_BYTES, long(5)), rta(unix.IFLA_VF_STATS_BROADCAST, long(6)), rta(unix.IFLA_VF_STATS_MULTICAST, long(7)))),
		"a short counter":         vf(func(v *VF) { v.TxBytes = 5 }, rta(nl.IFLA_VF_STATS, rta(unix.IFLA_VF_STATS_RX_BYTES, words(5)), rta(unix.IFLA_VF_STATS_TX_BYTES, long(5)))),
		"no padding at the end":   {append(rta(nl.IFLA_VF_INFO), 5, 0, 99, 0, 1), []VF{{Index: -1, Admin: plain}, {Index: -1, Admin: plain}}},
		"an address of IB is cut": {rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_MAC, vfMAC(3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9))), []VF{{Index: 3, Admin: Admin{MAC: "00:01:02:03:04:05", Proto: proto8021Q, LinkState: linkAuto}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readVFList(c.list)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadDamagedVFs(t *testing.T) {
	tooLong := rta(nl.IFLA_VF_MAC, vfMAC(3))
	binary.NativeEndian.PutUint16(tooLong, 44)
	for name, list := range map[string][]byte{
		"a length beyond the list":        {8, 0, 1, 0},
		"a length below its own":          {3, 0, 1, 0},
		"a length of 0":                   {0, 0, 0, 0},
		"an attribute beyond its VF":      rta(nl.IFLA_VF_INFO, tooLong),
		"a VLAN beyond its list":          rta(nl.IFLA_VF_INFO, rta(nl.IFLA_VF_VLAN_LIST, []byte{8, 0, 1, 0})),
		"the second of two VFs is broken": append(fullVF(0), 8, 0, 1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			if vfs, err := readVFList(list); !errors.Is(err, unix.EINVAL) || vfs != nil {
				t.Errorf("got %v, %v", vfs, err)
			}
		})
	}
}

// linkMessage is RTM_NEWLINK without its header.
func linkMessage(index int32, flags uint32, attrs ...[]byte) []byte {
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index, message.Flags = index, flags
	out := append([]byte{}, message.Serialize()...)
	for _, attr := range attrs {
		out = append(out, attr...)
	}
	return out
}

func name(s string) []byte { return append([]byte(s), 0) }

func TestReadLink(t *testing.T) {
	altnames := rta(unix.IFLA_PROP_LIST|nested, rta(unix.IFLA_ALT_IFNAME, name("enp1s16")), rta(77, words(1)), rta(unix.IFLA_ALT_IFNAME, name("a-name-of-more-than-15-characters")))
	for title, c := range map[string]struct {
		message []byte
		want    Link
	}{
		"nothing but an index": {linkMessage(7, 0), Link{Index: 7}},
		"all": {
			linkMessage(7, unix.IFF_UP|unix.IFF_RUNNING|unix.IFF_BROADCAST,
				rta(unix.IFLA_IFNAME, name("ens1")), rta(unix.IFLA_TXQLEN, words(1000)), rta(unix.IFLA_MTU, words(1500)), rta(unix.IFLA_MAX_MTU, words(9216)),
				rta(unix.IFLA_MASTER, words(3)), rta(unix.IFLA_ADDRESS, []byte{2, 0, 0, 0, 0, 1}), altnames,
				rta(unix.IFLA_PARENT_DEV_NAME, name("0000:01:10.0")), rta(unix.IFLA_PARENT_DEV_BUS_NAME, name("pci"))),
			Link{
				Index: 7, Name: "ens1", AltNames: []string{"enp1s16", "a-name-of-more-than-15-characters"}, MAC: "02:00:00:00:00:01",
				MTU: 1500, MaxMTU: 9216, Up: true, Carrier: true, Master: 3, PCI: "0000:01:10.0",
			},
		},
		"up without a carrier":     {linkMessage(1, unix.IFF_UP), Link{Index: 1, Up: true}},
		"down":                     {linkMessage(1, unix.IFF_BROADCAST|unix.IFF_MULTICAST), Link{Index: 1, Flags: unix.IFF_MULTICAST}},
		"as a pod left it":         {linkMessage(1, unix.IFF_NOARP|unix.IFF_PROMISC, rta(unix.IFLA_XDP|nested, rta(nl.IFLA_XDP_ATTACHED, []byte{1}))), Link{Index: 1, Flags: unix.IFF_NOARP | unix.IFF_PROMISC, XDP: true}},
		"without a program":        {linkMessage(1, 0, rta(unix.IFLA_XDP|nested, rta(nl.IFLA_XDP_ATTACHED, []byte{0}))), Link{Index: 1}},
		"an address of InfiniBand": {linkMessage(1, 0, rta(unix.IFLA_ADDRESS, make([]byte, 8))), Link{Index: 1, MAC: "00:00:00:00:00:00:00:00"}},
		"no address":               {linkMessage(1, 0, rta(unix.IFLA_ADDRESS)), Link{Index: 1}},
		"a name of 15 characters":  {linkMessage(1, 0, rta(unix.IFLA_IFNAME, name("enp129s0f0np000"))), Link{Index: 1, Name: "enp129s0f0np000"}},
		"a short MTU":              {linkMessage(1, 0, rta(unix.IFLA_MTU, []byte{1, 2})), Link{Index: 1}},
		"names without their end":  {linkMessage(1, 0, rta(unix.IFLA_IFNAME, []byte("ens1")), rta(unix.IFLA_PARENT_DEV_NAME), rta(unix.IFLA_PROP_LIST, rta(unix.IFLA_ALT_IFNAME, []byte("abcd")))), Link{Index: 1, Name: "ens1", AltNames: []string{"abcd"}}},
		"no other names":           {linkMessage(1, 0, rta(unix.IFLA_PROP_LIST|nested)), Link{Index: 1}},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := readLink(c.message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for title, message := range map[string][]byte{
		"no message":                      nil,
		"half a message":                  make([]byte, unix.SizeofIfInfomsg-1),
		"an attribute beyond the message": linkMessage(1, 0, []byte{8, 0, 3, 0}),
		"a name beyond its list":          linkMessage(1, 0, rta(unix.IFLA_PROP_LIST, []byte{8, 0, 53, 0})),
	} {
		t.Run(title, func(t *testing.T) {
			if link, err := readLink(message); !errors.Is(err, unix.EINVAL) || link.Index != 0 {
				t.Errorf("got %v, %v", link, err)
			}
		})
	}
}

// An old driver knows IFLA_VF_VLAN only, and no driver 802.1ad by it.
func TestVLANOnItsWayToThePF(t *testing.T) {
	for title, c := range map[string]struct {
		admin Admin
		want  []byte
	}{
		"a tag":            {Admin{VLAN: 100, QoS: 3, Proto: proto8021Q}, rta(nl.IFLA_VF_VLAN, words(9, 100, 3))},
		"no tag":           {Admin{Proto: proto8021Q}, rta(nl.IFLA_VF_VLAN, words(9, 0, 0))},
		"an unknown proto": {Admin{VLAN: 1}, rta(nl.IFLA_VF_VLAN, words(9, 1, 0))},
		"802.1ad": {
			Admin{VLAN: 4094, QoS: 7, Proto: proto8021AD},
			rta(nl.IFLA_VF_VLAN_LIST|nested, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(9, 4094, 7, unix.ETH_P_8021AD))),
		},
	} {
		t.Run(title, func(t *testing.T) {
			info := nl.NewRtAttr(nl.IFLA_VF_INFO, nil)
			addVLAN(info, 9, c.admin)
			if diff := cmp.Diff(rta(nl.IFLA_VF_INFO, c.want), info.Serialize()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// One knob is set, and nothing besides.
func TestKnobsOnTheirWayToThePF(t *testing.T) {
	all := Admin{
		MAC: "02:00:00:00:00:01", VLAN: 100, QoS: 3, Proto: proto8021AD, SpoofChk: on, Trust: on, LinkState: linkDisable, MinTxRate: 10, MaxTxRate: 1<<31 - 1,
	}
	for title, c := range map[string]struct {
		knob  Knob
		admin Admin
		want  []byte
	}{
		"an address":   {KnobMAC, all, rta(nl.IFLA_VF_MAC, vfMAC(9, 2, 0, 0, 0, 0, 1))},
		"no address":   {KnobMAC, Admin{MAC: zeroMAC}, rta(nl.IFLA_VF_MAC, vfMAC(9))},
		"a VLAN":       {KnobVLAN, all, rta(nl.IFLA_VF_VLAN_LIST|nested, rta(nl.IFLA_VF_VLAN_INFO, vlanInfo(9, 100, 3, unix.ETH_P_8021AD)))},
		"rates":        {KnobRate, all, rta(nl.IFLA_VF_RATE, words(9, 10, 1<<31-1))},
		"no rates":     {KnobRate, Admin{}, rta(nl.IFLA_VF_RATE, words(9, 0, 0))},
		"spoofchk on":  {KnobSpoofChk, all, rta(nl.IFLA_VF_SPOOFCHK, words(9, 1))},
		"spoofchk off": {KnobSpoofChk, Admin{SpoofChk: off, Trust: on}, rta(nl.IFLA_VF_SPOOFCHK, words(9, 0))},
		"trust on":     {KnobTrust, all, rta(nl.IFLA_VF_TRUST, words(9, 1))},
		"trust off":    {KnobTrust, Admin{SpoofChk: on, Trust: off}, rta(nl.IFLA_VF_TRUST, words(9, 0))},
		"auto":         {KnobLinkState, Admin{LinkState: linkAuto}, rta(nl.IFLA_VF_LINK_STATE, words(9, 0))},
		"enable":       {KnobLinkState, Admin{LinkState: linkEnable}, rta(nl.IFLA_VF_LINK_STATE, words(9, 1))},
		"disable":      {KnobLinkState, all, rta(nl.IFLA_VF_LINK_STATE, words(9, 2))},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := encodeVF(9, c.knob, c.admin)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rta(unix.IFLA_VFINFO_LIST|nested, rta(nl.IFLA_VF_INFO|nested, c.want)), got.Serialize()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := encodeVF(9, "color", all); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a knob that nobody knows: %v", err)
	}
	if _, err := encodeVF(9, KnobMAC, Admin{MAC: "green"}); err == nil {
		t.Error("an address that is none was sent")
	}
	for _, k := range knobs() { // what is sent reads back
		sent, err := encodeVF(9, k, all)
		if err != nil {
			t.Fatal(err)
		}
		vfs, err := readVFList(sent.Serialize()[unix.SizeofRtAttr:])
		if err != nil || len(vfs) != 1 {
			t.Fatalf("%s: %v, %v", k, vfs, err)
		}
		got := vfs[0].Admin
		if k == KnobVLAN { // the kernel reports the tag by itself as well
			got.VLAN, got.QoS = all.VLAN, all.QoS
		}
		if got.value(k) != all.value(k) {
			t.Errorf("%s: %q, want %q", k, got.value(k), all.value(k))
		}
	}
}

// What is sent to the PF for a VLAN is what it would report.
func TestVLANThereAndBack(t *testing.T) {
	for _, proto := range []string{proto8021Q, proto8021AD} {
		info := nl.NewRtAttr(nl.IFLA_VF_INFO, nil)
		info.AddRtAttr(nl.IFLA_VF_MAC, vfMAC(9))
		addVLAN(info, 9, Admin{VLAN: 100, QoS: 3, Proto: proto})
		vfs, err := readVFList(info.Serialize())
		if err != nil || len(vfs) != 1 || vfs[0].Proto != proto || vfs[0].Index != 9 {
			t.Errorf("%s: %v, %v", proto, vfs, err)
		}
	}
	if setting(on) != 1 || setting(off) != 0 || setting("") != 0 {
		t.Error("on is 1, and the rest is 0")
	}
}
