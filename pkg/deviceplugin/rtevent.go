package deviceplugin

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// routeGroups are the groups of rtnetlink that are heard.
const routeGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// maxKnown bounds what the filter remembers. One that forgets it makes the
// manager look once more.
const maxKnown = 4096

// routeFilter finds what matters in rtnetlink's events. A busy node has many,
// of pods' veths.
type routeFilter struct {
	watched atomic.Pointer[watched]
	known   map[string]bool // addresses and default routes that were told of: routers repeat them
}

// follow sets what is watched, and reports whether that is something else
// than before.
func (r *routeFilter) follow(w *watched) bool {
	old := r.watched.Swap(w)
	return old == nil || !old.equal(w)
}

// cause says what an event is to the manager, "" = nothing.
func (r *routeFilter) cause(messages []byte) string {
	w := r.watched.Load()
	if w == nil {
		return "" // the first look is still to come
	}
	found := ""
	for len(messages) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(messages))
		kind := binary.NativeEndian.Uint16(messages[4:])
		if size < unix.NLMSG_HDRLEN || size > len(messages) {
			return found
		}
		if why := r.one(w, kind, messages[unix.NLMSG_HDRLEN:size]); why != "" {
			found = why
		}
		messages = messages[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(messages)):]
	}
	return found
}

func (r *routeFilter) one(w *watched, kind uint16, body []byte) string {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(body) >= unix.SizeofIfInfomsg && concernsLinks(w, body) {
			return causeLink
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(body) >= unix.SizeofIfAddrmsg && r.newAddress(w, kind == unix.RTM_NEWADDR, body) {
			return causeAddress
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(body) >= unix.SizeofRtMsg && len(w.candidates) > 0 && r.newDefault(kind == unix.RTM_NEWROUTE, body) {
			return causeRoute
		}
	}
	return ""
}

// concernsLinks reports whether a link is one that is watched, or stands on
// one: a VLAN, a macvlan. A peer in another namespace has a number of that one.
func concernsLinks(w *watched, body []byte) bool {
	index := int(int32(binary.NativeEndian.Uint32(body[4:])))
	if w.links[index] {
		return true
	}
	attrs := attributes(body[unix.SizeofIfInfomsg:])
	_, elsewhere := attrs[unix.IFLA_LINK_NETNSID]
	return !elsewhere && w.links[number(attrs[unix.IFLA_LINK])]
}

// newAddress reports whether an address came or went on a watched device.
func (r *routeFilter) newAddress(w *watched, added bool, body []byte) bool {
	index := int(binary.NativeEndian.Uint32(body[4:]))
	if !w.addresses[index] {
		return false
	}
	attrs := attributes(body[unix.SizeofIfAddrmsg:])
	return r.news(fmt.Sprintf("address %d %x %x", index, attrs[unix.IFA_ADDRESS], attrs[unix.IFA_LOCAL]), added)
}

// newDefault reports whether a default route of the main table came or went.
func (r *routeFilter) newDefault(added bool, body []byte) bool {
	family, prefix, table := body[0], body[1], body[4]
	if prefix != 0 || table != unix.RT_TABLE_MAIN {
		return false
	}
	attrs := attributes(body[unix.SizeofRtMsg:])
	key := []string{fmt.Sprintf("route %d", family)}
	for _, kind := range []uint16{unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_PRIORITY, unix.RTA_MULTIPATH} {
		key = append(key, fmt.Sprintf("%x", attrs[kind]))
	}
	return r.news(strings.Join(key, " "), added)
}

// news reports whether something was not known before, or is not there now.
func (r *routeFilter) news(what string, added bool) bool {
	if !added {
		delete(r.known, what)
		return true
	}
	if r.known[what] {
		return false
	}
	if r.known == nil || len(r.known) >= maxKnown {
		r.known = map[string]bool{}
	}
	r.known[what] = true
	return true
}

// attributes reads a list of them, as far as it is sound.
func attributes(list []byte) map[uint16][]byte {
	found := map[uint16][]byte{}
	for len(list) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(list))
		if size < unix.SizeofRtAttr || size > len(list) {
			break
		}
		kind := binary.NativeEndian.Uint16(list[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		found[kind] = list[unix.SizeofRtAttr:size]
		list = list[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(list)):]
	}
	return found
}

// number reads an attribute of four bytes, 0 if there is none.
func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(value)))
}
