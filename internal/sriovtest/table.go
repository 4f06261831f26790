package sriovtest

import (
	"slices"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Case is one row of the table.
type Case struct {
	Name  string
	Needs []string // keys that the driver must not refuse
	Makes bool     // VFs anew, and these are like no others before
	run   func(*Bed)
}

// Cases are the table.
func Cases() []Case {
	return slices.Concat(knobCases(), macCases(), checkCases(), pickCases(), homeCases(), endCases(), failCases(), waitCases(), driverCases())
}

// On runs a case on a ground, and looks that the node is as before. What the
// driver cannot do is not tried, but must be refused by its name and the key's.
func (c Case) On(t *testing.T, g Ground) {
	t.Helper()
	b := newBed(t, g)
	b.pfUp() // a PF that was in a pod takes its time for its link
	before := b.look()
	lacks := slices.IndexFunc(c.Needs, func(key string) bool { return !b.can(key) })
	if lacks >= 0 {
		b.refuses(c.Needs[lacks])
	} else {
		c.run(b)
	}
	if !c.Makes {
		b.same(before)
	}
}

// asking is a value of each key for a configuration.
func asking(key string) obj {
	return map[string]obj{
		"vlan": {"vlan": 100, "vlanQoS": 3}, "802.1ad": {"vlan": 100, "vlanProto": "802.1ad"}, "mac": {"mac": "02:00:00:00:01:01"},
		"spoofchk": {"spoofchk": "off"}, "trust": {"trust": "on"}, "link_state": {"link_state": "enable"},
		"max_tx_rate": {"max_tx_rate": 200}, "min_tx_rate": {"min_tx_rate": 100}, "mtu": {"mtu": 1400},
	}[key]
}

// refuses requires that ADD names the driver and the key, and leaves nothing
// that the DEL behind it does not undo.
func (b *Bed) refuses(key string) {
	b.t.Helper()
	if key == "pfOnly" {
		p := b.pod(obj{"master": b.pf().Name, "pfOnly": true})
		b.has(p.refused("ADD").Error(), "PF "+b.pf().Name)
		p.do("DEL")
		return
	}
	p := b.pod(b.of(1, asking(key)))
	b.says(p.refused("ADD"), network.Invalid, "driver "+b.Driver, key)
	p.do("DEL")
}
