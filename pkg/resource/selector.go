package resource

import (
	"encoding/json"
	"slices"
	"strings"
)

// criteria are the keys that make a selector take some devices and not others.
func criteria() []string {
	return []string{"vendors", "devices", "drivers", "pciAddresses", "acpiIndexes", "pfNames", "rootDevices", "linkTypes", "isRdma"}
}

func selectorKeys() []string {
	return slices.Concat(criteria(), []string{"needVhostNet", "ddpProfiles", "pKeys", "vdpaType", "auxTypes"})
}

// selectors reads the one selector or the list of them. `rdma` is the
// resource's own isRdma, which holds for each.
func (at place) selectors(f fields, rdma bool) []Selector {
	const want = "an object or an array of objects"
	raw := f["selectors"]
	var list []json.RawMessage
	switch kindOf(raw) {
	case anObject:
		return []Selector{at.in("selectors").selector(raw, rdma)}
	case anArray:
		list, _ = get[[]json.RawMessage](at, f, "selectors", want)
	case "nothing":
	default:
		at.in("selectors").refuse("is %s, want %s", kindOf(raw), want)
		return nil
	}
	at = at.in("selectors")
	if len(list) == 0 {
		at.refuse("is missing or empty: say which devices the resource has, by at least one of %s", strings.Join(criteria(), ", "))
	}
	all := make([]Selector, 0, len(list))
	for i, one := range list {
		all = append(all, at.item(i).selector(one, rdma))
	}
	return all
}

func (at place) selector(raw json.RawMessage, rdma bool) Selector {
	before := at.refusals
	f, strays := at.object(raw, selectorKeys())
	for _, s := range strays {
		at.in(plain(s.key)).refuse("%s", s.say(selectorKeys()))
	}
	at.unsupported(f)
	s := Selector{
		Vendors:      at.list(f, "vendors", hexID),
		Devices:      at.list(f, "devices", hexID),
		Drivers:      at.list(f, "drivers", driverName),
		PCIAddresses: at.list(f, "pciAddresses", pciAddress),
		ACPIIndexes:  at.list(f, "acpiIndexes", acpiIndex),
		PFNames:      at.ranges(f, "pfNames", interfaceName),
		RootDevices:  at.ranges(f, "rootDevices", pciAddress),
		LinkTypes:    at.list(f, "linkTypes", linkType),
		RDMA:         at.flag(f, "isRdma") || rdma,
		VhostNet:     at.flag(f, "needVhostNet"),
	}
	if at.refusals == before && s.everything() {
		at.refuse("selects every NIC, also those that the node itself uses: name at least one of %s", strings.Join(criteria(), ", "))
	}
	return s
}

// unsupported refuses selectors that need what is not read here.
func (at place) unsupported(f fields) {
	const keep = "keep sriov-network-device-plugin for this resource"
	for _, list := range []struct{ key, why string }{
		{"ddpProfiles", "the NIC's DDP profile is not read: select by drivers, devices or pfNames instead, or " + keep},
		{"pKeys", "InfiniBand partition keys are not read: select by pfNames or rootDevices instead, or " + keep},
		{"auxTypes", "subfunctions are not offered: " + keep},
	} {
		values, _ := get[[]string](at, f, list.key, "an array of strings")
		if len(values) > 0 {
			at.in(list.key).refuse("%s: %s", quote(strings.Join(values, " ")), list.why)
		}
	}
	if kind := at.text(f, "vdpaType"); kind != "" {
		at.in("vdpaType").refuse("%s: vDPA devices are not offered: %s", quote(kind), keep)
	}
}
