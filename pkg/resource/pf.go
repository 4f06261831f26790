package resource

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func pfKeys() []string { return []string{"name", "pciAddress", "numVfs", "driver", "mtu"} }

// PF returns the entry of `pfs` for a PF, nil if it has none. An entry by
// address comes before one by name.
func (c *Config) PF(pf *sriov.PF) *PF {
	var named *PF
	for i := range c.PFs {
		entry := &c.PFs[i]
		if entry.PCI != "" && entry.PCI == pf.PCI {
			return entry
		}
		if named == nil && entry.Name != "" && entry.Name == pf.Name {
			named = entry
		}
	}
	return named
}

// pfs reads the PFs that get their VFs from us. An entry with anything wrong
// is left out: hardware is set up as it is written, or left alone.
func (at place) pfs(found fields) []PF {
	raw, ok := found["pfs"]
	if !ok {
		return nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		at.in("pfs").refuse("is %s, want an array of objects: no PF is provisioned", kindOf(raw))
		return nil
	}
	var all []PF
	first := map[string]string{}
	for i, entry := range entries {
		here := at
		here.part = fmt.Sprintf("pfs[%d]", i)
		pf := here.pf(entry)
		if pf == nil {
			continue
		}
		who := pf.Name + pf.PCI
		if other := first[who]; other != "" {
			here.refuse("%s has an entry already, %s: keep one", who, other)
			continue
		}
		first[who] = here.part
		all = append(all, *pf)
	}
	return all
}

func (at place) pf(raw json.RawMessage) *PF {
	before := at.refusals
	f, strays := at.object(raw, pfKeys())
	if f == nil {
		return nil
	}
	for _, s := range strays {
		at.in(plain(s.key)).refuse("%s", s.say(pfKeys()))
	}
	pf := &PF{
		Name:   at.checked(f, "name", interfaceName),
		PCI:    at.checked(f, "pciAddress", pciAddress),
		NumVFs: at.number(f, "numVfs", 1, maxVF+1),
		Driver: at.checked(f, "driver", bindable),
		MTU:    at.number(f, "mtu", 68, 65535),
	}
	if _, ok := f["numVfs"]; !ok {
		at.in("numVfs").refuse("is missing: say how many VFs the PF is to have")
	}
	_, byName := f["name"]
	_, byPCI := f["pciAddress"]
	if byName == byPCI {
		at.refuse("want either name or pciAddress, to say which PF it is")
	}
	if at.refusals > before {
		return nil
	}
	return pf
}

// checked reads a string that has to be of a form, "" if there is none.
func (at place) checked(f fields, key string, check func(string) (proper, want string)) string {
	value, ok := get[string](at, f, key, "a string")
	if !ok {
		return ""
	}
	proper, want := check(value)
	if want != "" {
		at.in(key).refuse("%s: want %s", quote(value), want)
	}
	return proper
}

// bindable checks the name of a driver that is written to a path of sysfs.
func bindable(value string) (proper, want string) {
	if len(value) > 64 || !regexp.MustCompile(`^[a-z0-9_-]+$`).MatchString(value) {
		return "", `a driver's name such as "vfio-pci": lower-case letters, digits, '_' and '-'`
	}
	return value, ""
}
