package sriov

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VFs implements Netns.
func (n *kernelNetns) VFs(pf int) ([]VF, error) { return n.readVFs(pf, filterVF|filterSkipStats) }

// Counters implements Netns.
func (n *kernelNetns) Counters(pf int) ([]VF, error) { return n.readVFs(pf, filterVF) }

func (n *kernelNetns) readVFs(pf, filter int) ([]VF, error) {
	messages, err := n.get(unix.NLM_F_ACK, pf, filter)
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		return nil, ErrNoLink
	}
	if len(messages[0]) < unix.SizeofIfInfomsg {
		return nil, unix.EINVAL
	}
	attrs, err := attributes(messages[0][unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, err
	}
	for _, attr := range attrs {
		if attr.kind == unix.IFLA_VFINFO_LIST {
			return readVFList(attr.value)
		}
	}
	return nil, nil
}

func readVFList(list []byte) ([]VF, error) {
	infos, err := attributes(list)
	if err != nil {
		return nil, fmt.Errorf("IFLA_VFINFO_LIST: %w", err)
	}
	var vfs []VF
	for _, info := range infos {
		vf, readErr := readVF(info.value)
		if readErr != nil {
			return nil, fmt.Errorf("IFLA_VF_INFO: %w", readErr)
		}
		vfs = append(vfs, vf)
	}
	return vfs, nil
}

func readVF(info []byte) (VF, error) {
	vf := VF{Index: -1, Admin: Admin{MAC: zeroMAC, Proto: proto8021Q, LinkState: linkAuto}}
	attrs, err := attributes(info)
	for _, attr := range attrs {
		if err == nil {
			err = vf.take(attr.kind, attr.value)
		}
	}
	return vf, err
}

// Sizes of the structures of linux/if_link.h that are read here.
const (
	sizeVFMAC     = 36
	sizeVFSetting = 8
	sizeVFVLAN    = 12
	sizeVFRate    = 12
)

// take takes one attribute of IFLA_VF_INFO over. All but the lists begin with
// the VF's index; a structure that is too short is left out.
func (vf *VF) take(kind int, value []byte) error {
	setting := -1
	if len(value) >= sizeVFSetting {
		setting = word(value[4:])
	}
	switch {
	case kind == nl.IFLA_VF_MAC && len(value) >= sizeVFMAC:
		vf.Index = word(value)
		vf.MAC = net.HardwareAddr(value[4:10]).String()
	case kind == nl.IFLA_VF_VLAN && len(value) >= sizeVFVLAN:
		vf.VLAN, vf.QoS = setting, word(value[8:])
	case kind == nl.IFLA_VF_VLAN_LIST:
		return vf.takeProto(value)
	case kind == nl.IFLA_VF_RATE && len(value) >= sizeVFRate:
		vf.MinTxRate, vf.MaxTxRate = setting, word(value[8:])
	case kind == nl.IFLA_VF_SPOOFCHK:
		vf.SpoofChk = switchWord(setting)
	case kind == nl.IFLA_VF_TRUST:
		vf.Trust = switchWord(setting)
	case kind == nl.IFLA_VF_LINK_STATE && setting >= 0 && setting < len(linkStates()):
		vf.LinkState = linkStates()[setting]
	case kind == nl.IFLA_VF_STATS:
		return vf.takeCounters(value)
	}
	return nil
}

// takeCounters does not leave it to the library: its numbers for what was
// dropped are not the kernel's (v1.3.1 knows nothing of IFLA_VF_STATS_PAD).
func (vf *VF) takeCounters(list []byte) error {
	stats, err := attributes(list)
	if err != nil {
		return fmt.Errorf("IFLA_VF_STATS: %w", err)
	}
	counters := map[int]*uint64{
		unix.IFLA_VF_STATS_RX_PACKETS: &vf.RxPackets, unix.IFLA_VF_STATS_TX_PACKETS: &vf.TxPackets,
		unix.IFLA_VF_STATS_RX_BYTES: &vf.RxBytes, unix.IFLA_VF_STATS_TX_BYTES: &vf.TxBytes,
		unix.IFLA_VF_STATS_RX_DROPPED: &vf.RxDropped, unix.IFLA_VF_STATS_TX_DROPPED: &vf.TxDropped,
	}
	const size = 8
	for _, stat := range stats {
		if counter := counters[stat.kind]; counter != nil && len(stat.value) >= size {
			*counter = binary.NativeEndian.Uint64(stat.value)
		}
	}
	return nil
}

func (vf *VF) takeProto(list []byte) error {
	infos, err := attributes(list)
	if err != nil {
		return fmt.Errorf("IFLA_VF_VLAN_LIST: %w", err)
	}
	const protoAt = 12 // a big-endian number behind three words
	for _, info := range infos {
		if len(info.value) >= protoAt+2 && int(info.value[protoAt])<<8|int(info.value[protoAt+1]) == unix.ETH_P_8021AD {
			vf.Proto = proto8021AD
		}
	}
	return nil
}

// switchWord reads a setting: the kernel says -1 where the driver has none.
func switchWord(setting int) string {
	switch setting {
	case 0:
		return off
	case 1:
		return on
	}
	return ""
}

// linkStates are IFLA_VF_LINK_STATE's values in order.
func linkStates() []string { return []string{linkAuto, linkEnable, linkDisable} }

// SetVF implements Netns.
func (n *kernelNetns) SetVF(pf, vf int, k Knob, a Admin) error {
	list, err := encodeVF(vf, k, a)
	if err != nil {
		return err
	}
	_, err = n.request(unix.RTM_SETLINK, unix.NLM_F_ACK, pf, list)
	return err
}

// encodeVF makes the attribute that sets one knob.
func encodeVF(vf int, k Knob, a Admin) (*nl.RtAttr, error) {
	list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST|unix.NLA_F_NESTED, nil)
	info := list.AddRtAttr(nl.IFLA_VF_INFO|unix.NLA_F_NESTED, nil)
	switch k {
	case KnobMAC:
		mac, err := net.ParseMAC(a.MAC)
		if err != nil {
			return nil, err
		}
		msg := nl.VfMac{Vf: uint32(vf)}
		copy(msg.Mac[:], mac)
		info.AddRtAttr(nl.IFLA_VF_MAC, msg.Serialize())
	case KnobVLAN:
		addVLAN(info, vf, a)
	case KnobRate:
		msg := nl.VfRate{Vf: uint32(vf), MinTxRate: uint32(a.MinTxRate), MaxTxRate: uint32(a.MaxTxRate)}
		info.AddRtAttr(nl.IFLA_VF_RATE, msg.Serialize())
	case KnobSpoofChk:
		msg := nl.VfSpoofchk{Vf: uint32(vf), Setting: setting(a.SpoofChk)}
		info.AddRtAttr(nl.IFLA_VF_SPOOFCHK, msg.Serialize())
	case KnobTrust:
		msg := nl.VfTrust{Vf: uint32(vf), Setting: setting(a.Trust)}
		info.AddRtAttr(nl.IFLA_VF_TRUST, msg.Serialize())
	case KnobLinkState:
		msg := nl.VfLinkState{Vf: uint32(vf)}
		for i, word := range linkStates() {
			if word == a.LinkState {
				msg.LinkState = uint32(i)
			}
		}
		info.AddRtAttr(nl.IFLA_VF_LINK_STATE, msg.Serialize())
	default:
		return nil, errors.ErrUnsupported
	}
	return list, nil
}

// addVLAN names the protocol only where it is not 802.1q: an old driver
// knows nothing of the list.
func addVLAN(info *nl.RtAttr, vf int, a Admin) {
	vlan := nl.VfVlan{Vf: uint32(vf), Vlan: uint32(a.VLAN), Qos: uint32(a.QoS)}
	if a.Proto != proto8021AD {
		info.AddRtAttr(nl.IFLA_VF_VLAN, vlan.Serialize())
		return
	}
	msg := nl.VfVlanInfo{VfVlan: vlan, VlanProto: bigEndian(unix.ETH_P_8021AD)}
	info.AddRtAttr(nl.IFLA_VF_VLAN_LIST|unix.NLA_F_NESTED, nil).AddRtAttr(nl.IFLA_VF_VLAN_INFO, msg.Serialize())
}

func setting(word string) uint32 {
	if word == on {
		return 1
	}
	return 0
}
