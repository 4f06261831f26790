package resource

import (
	"encoding/json"
	"fmt"
	"slices"
)

func resourceKeys() []string {
	return []string{"resourceName", "resourcePrefix", "deviceType", "excludeTopology", "selectors", "isRdma", "additionalInfo", "allocation"}
}

// resource reads an entry of resourceList, nil if it is refused.
func (r *reader) resource(i int, raw json.RawMessage) *Resource {
	before := r.refusals
	at := place{reader: r, part: fmt.Sprintf("resourceList[%d]", i)}
	f, strays := at.object(raw, resourceKeys())
	if f == nil {
		return nil
	}
	name := at.name(f)
	if name != "" {
		at.part = name
	}
	at.strayKeys(strays)
	at.deviceType(f)
	res := &Resource{
		Name:            name,
		ExcludeTopology: at.flag(f, "excludeTopology"),
		Allocation:      at.allocation(f),
		AdditionalInfo:  at.additionalInfo(f),
		Selectors:       at.selectors(f, at.flag(f, "isRdma")),
	}
	if r.refusals > before {
		return nil
	}
	return res
}

// strayKeys refuses a resource for a key that stands twice, and for what looks
// like a selector's key outside selectors: more devices than meant would be
// taken. Any other key is only warned about.
func (at place) strayKeys(strays []stray) {
	for _, s := range strays {
		here := at.in(plain(s.key))
		near := Nearest(s.key, slices.Concat(resourceKeys(), selectorKeys()))
		own := slices.Contains(resourceKeys(), near)
		switch {
		case s.twice != "" || own && slices.Contains(selectorKeys(), near):
			here.refuse("%s", s.say(resourceKeys()))
		case near != "" && !own:
			here.refuse("is no key here: put %s into selectors", quote(near))
		default:
			here.warn("%s", s.say(resourceKeys()))
		}
	}
}

// deviceType refuses what is no network function of the PCI bus.
func (at place) deviceType(f fields) {
	kind := at.text(f, "deviceType")
	at = at.in("deviceType")
	switch kind {
	case "", "netDevice":
	case "accelerator":
		at.refuse("accelerators are not offered, network functions alone: keep sriov-network-device-plugin for this resource")
	case "auxNetDevice":
		at.refuse("subfunctions (auxNetDevice) are not offered: keep sriov-network-device-plugin for this resource")
	default:
		at.refuse("%s: want \"netDevice\", or leave the key out", quote(kind))
	}
}

func (at place) allocation(f fields) Policy {
	policy := Policy(at.text(f, "allocation"))
	switch policy {
	case "":
		return Pack
	case Pack, Spread, Near:
	default:
		at.in("allocation").refuse("%s: want \"pack\", \"spread\" or \"near\"", quote(string(policy)))
	}
	return policy
}

// additionalInfo is what containers are told about devices, by address.
func (at place) additionalInfo(f fields) map[string]map[string]string {
	raw, ok := f["additionalInfo"]
	at = at.in("additionalInfo")
	if !ok {
		return nil
	}
	if kindOf(raw) != anObject {
		at.refuse(`is %s, want an object such as {"*": {"key": "value"}}`, kindOf(raw))
		return nil
	}
	info := map[string]map[string]string{}
	for _, m := range members(raw) {
		proper, want := pciAddress(m.key)
		if m.key == "*" {
			proper, want = m.key, ""
		}
		if want != "" {
			at.refuse("%s: want \"*\" or %s", quote(m.key), want)
			continue
		}
		if info[proper] != nil {
			at.refuse("%s stands twice: keep one", quote(proper))
			continue
		}
		info[proper] = at.in(proper).pairs(m.value)
	}
	return info
}

// pairs reads an object of strings.
func (at place) pairs(raw json.RawMessage) map[string]string {
	all := map[string]string{}
	if kindOf(raw) != anObject {
		at.refuse("is %s, want an object of strings", kindOf(raw))
		return all
	}
	for _, m := range members(raw) {
		var text *string
		_, twice := all[m.key]
		switch err := json.Unmarshal(m.value, &text); {
		case err != nil || text == nil:
			at.in(plain(m.key)).refuse("is %s, want a string", plain(string(m.value)))
		case twice:
			at.in(plain(m.key)).refuse("stands twice: keep one")
		default:
			all[m.key] = *text
		}
	}
	return all
}
