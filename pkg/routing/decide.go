package routing

import (
	"fmt"
	"net/netip"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Input is all that the rules look at.
type Input struct {
	Before   *State            // with the cluster network alone
	After    *State            // with every network attached
	Networks []Network         // the cluster network first, then in order
	Ranges   []netip.Prefix    // clusterCIDRs: pods and Services
	Strict   bool              // routing.strict
	Sysctls  map[string]string // what sysctlKeys names, as it is now; without the keys that the kernel lacks
}

// Network is one attachment and what its ADD returned.
type Network struct {
	*network.Attachment
	Result *current.Result // as Part.Indexed returns it
}

// Plan is what the rules want for one pod: what is set, so that it can be
// compared, and what was there before, so that it can be undone.
type Plan struct {
	NICs     []NIC          `json:"nics,omitempty"`
	Carriers [2]Carrier     `json:"carriers"`           // who carries the default route: IPv4, IPv6
	Ranges   []netip.Prefix `json:"ranges,omitempty"`   // what leaves by the cluster network
	Rules    []Rule         `json:"rules,omitempty"`    // R3, R4
	Routes   []Route        `json:"routes,omitempty"`   // of the tables
	Added    []Route        `json:"added,omitempty"`    // to main
	Removed  []Route        `json:"removed,omitempty"`  // from main
	Kept     []Route        `json:"kept,omitempty"`     // parts of a default that are the cluster network's
	Sysctls  []Sysctl       `json:"sysctls,omitempty"`  // of the pod's NICs
	Quiet    []Sysctl       `json:"quiet,omitempty"`    // of conf/default, while NICs come up
	Warnings []string       `json:"warnings,omitempty"` // for the pod's author and the administrator
}

// Carrier is the NIC that carries what no other route does.
type Carrier struct {
	Attachment int     `json:"attachment"`
	NIC        string  `json:"nic,omitempty"` // "" when no NIC has a default route
	Routes     []Route `json:"routes,omitempty"`
	Asked      bool    `json:"asked,omitempty"` // by a selection's default-route
	Unchecked  bool    `json:"-"`               // its network wants no CHECK
}

// decision is a Plan in the making.
type decision struct {
	Input
	*Plan
	before map[routeKey]bool // the unicast routes that main had before
}

// Decide applies the rules R1 to R6. It touches nothing and asks nobody.
// Errors are of kind Invalid: a default-route that cannot be had, or, with
// Strict, one that would take traffic to pods or Services along.
func Decide(in Input) (*Plan, error) {
	d := &decision{Input: in, Plan: &Plan{}, before: keysOf(in.Before.main(unicast))}
	d.findNICs()
	steps := []func() error{
		d.chooseDefaults, // R1
		d.oneDefault,     // R2
		d.replyByRequest, // R3
		d.keepRanges,     // R4
		d.closeLeaks,     // R5
		d.nameOverlaps,   // R6
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return d.Plan, nil
}

func (d *decision) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(d.Warnings, w) {
		d.Warnings = append(d.Warnings, w)
	}
}

// findNICs lists the pod's NICs in the order of the attachments. Each
// attachment takes one table at least, also when it has no kernel device.
func (d *decision) findNICs() {
	table := FirstTable
	for i := range d.Networks {
		count := 0
		for _, name := range d.interfaces(i) {
			if d.addNIC(name, i, table+count) {
				count++
			}
		}
		table += max(count, 1)
	}
	for ipv6 := range d.Carriers {
		if routes := defaultLike(d.Before.main(unicast), ipv6 == 1); len(routes) > 0 {
			d.Carriers[ipv6] = Carrier{NIC: routes[0].devices()[0], Routes: routes}
		}
	}
}

// interfaces names the interfaces that belong to an attachment: those of its
// result, then those that nobody claims: from before the secondaries for the
// cluster network, new ones for the last attachment.
func (d *decision) interfaces(i int) []string {
	names := network.PodInterfaces(network.Part{IfName: d.Networks[i].IfName, Result: d.Networks[i].Result})
	if at := slices.Index(names, d.Networks[i].IfName); at > 0 {
		names = append([]string{names[at]}, slices.Delete(slices.Clone(names), at, at+1)...)
	}
	for _, link := range d.After.Links {
		before := d.Before.link(link.Name) != nil
		if (i == 0 && before || i == len(d.Networks)-1 && !before) && !d.claimed(link.Name) && d.After.hasAddress(link.Name) {
			names = append(names, link.Name)
		}
	}
	return names
}

func (d *decision) claimed(name string) bool {
	return slices.ContainsFunc(d.Networks, func(n Network) bool {
		return slices.Contains(network.PodInterfaces(network.Part{IfName: n.IfName, Result: n.Result}), name)
	})
}

// addNIC takes an interface into the plan if the kernel has it, and nobody
// took it before.
func (d *decision) addNIC(name string, attachment, table int) bool {
	link := d.After.link(name)
	if link == nil || d.nic(name) != nil {
		return false
	}
	nic := NIC{Name: name, Attachment: attachment, Table: table}
	for _, a := range d.After.Addresses {
		if a.Dev != name {
			continue
		}
		if slices.Contains(nic.Addresses, a.Prefix.Addr()) {
			continue // with another length
		}
		if owner := d.owner(a.Prefix.Addr()); owner != "" {
			d.warn("address %s is on %s and on %s: replies leave by %s", a.Prefix.Addr(), owner, name, owner)
		} else if link.Up {
			nic.Addresses = append(nic.Addresses, a.Prefix.Addr())
		}
	}
	if !link.Up && d.After.hasAddress(name) {
		d.warn("interface %s is down: nothing is routed for its addresses", name)
	}
	d.NICs = append(d.NICs, nic)
	return true
}

func (d *decision) owner(a netip.Addr) string {
	for i := range d.NICs {
		if slices.Contains(d.NICs[i].Addresses, a) {
			return d.NICs[i].Name
		}
	}
	return ""
}

// nic returns the NIC of that name, or nil.
func (p *Plan) nic(name string) *NIC {
	i := slices.IndexFunc(p.NICs, func(n NIC) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &p.NICs[i]
}

// of returns the first NIC of an attachment, or nil.
func (p *Plan) of(attachment int) *NIC {
	i := slices.IndexFunc(p.NICs, func(n NIC) bool { return n.Attachment == attachment })
	if i < 0 {
		return nil
	}
	return &p.NICs[i]
}

// eth0 names the cluster network's first NIC, or nothing.
func (p *Plan) eth0() string {
	if nic := p.of(0); nic != nil {
		return nic.Name
	}
	return ""
}

// ofCluster reports whether an interface is one of the cluster network's NICs.
func (p *Plan) ofCluster(name string) bool {
	nic := p.nic(name)
	return nic != nil && nic.Attachment == 0
}

// secondaries reports whether the pod has NICs besides the cluster network's.
func (p *Plan) secondaries() bool {
	return slices.ContainsFunc(p.NICs, func(n NIC) bool { return n.Attachment > 0 })
}

func (s *State) hasAddress(dev string) bool {
	return slices.ContainsFunc(s.Addresses, func(a Address) bool { return a.Dev == dev })
}
