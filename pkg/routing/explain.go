package routing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Share is what one NIC of a pod carries.
type Share struct {
	NIC
	// Destinations of sockets that bind nothing, by the kernel's routes now.
	Destinations []string
}

// ShareHeader names the columns of Share.TableRow.
func ShareHeader() []string { return []string{"NIC", "TABLE", "CARRIES", "REPLIES OF"} }

// TableRow shows the share as one row.
func (s *Share) TableRow() []string {
	var addresses []string
	for _, a := range s.Addresses {
		addresses = append(addresses, a.String())
	}
	return []string{s.Name, strconv.Itoa(s.Table), orDash(s.Destinations), orDash(addresses)}
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

// Carried says who carries what, in the order of the NICs: the cluster's
// ranges, the routes of main, and everything else.
func (p *Pod) Carried(plan *Plan) ([]Share, error) {
	have, err := p.State()
	if err != nil {
		return nil, err
	}
	return carried(plan, have), nil
}

func carried(plan *Plan, have *State) []Share {
	var ranges []netip.Prefix
	for _, r := range have.Rules {
		if r.ours() && r.Priority == rangesPref {
			ranges = append(ranges, r.To)
		}
	}
	ranges = outermost(ranges)
	both := len(plan.Carriers[0].Routes) > 0 && len(plan.Carriers[1].Routes) > 0
	var out []Share
	for _, nic := range plan.NICs {
		share := Share{NIC: nic}
		share.Addresses = slices.DeleteFunc(slices.Clone(nic.Addresses), func(a netip.Addr) bool {
			return !slices.ContainsFunc(have.Rules, func(r Rule) bool { return r.ours() && r.From == host(a) && r.Table == nic.Table })
		})
		if nic.Name == plan.eth0() {
			for _, r := range ranges {
				name := hostOrPrefix(r)
				if r == nodeLocalDNS() {
					name = "node-local DNS"
				}
				share.Destinations = append(share.Destinations, name)
			}
		}
		share.Destinations = append(share.Destinations, subnetsBy(nic.Name, have, ranges)...)
		share.Destinations = append(share.Destinations, everythingElse(nic.Name, have, both)...)
		out = append(out, share)
	}
	return out
}

// subnetsBy are the destinations of main's routes by a NIC, less defaults and
// what the cluster's ranges overrule.
func subnetsBy(nic string, have *State, ranges []netip.Prefix) []string {
	defaults := defaultKeys(have.main(unicast))
	var out []string
	for _, r := range have.main(func(r *Route) bool { return unicast(r) && !defaults[r.key()] && isGlobal(r.Dst.Addr()) }) {
		if !have.first(r.Dst).by(nic) {
			continue // another NIC is on the same subnet, and comes first
		}
		overruled := slices.ContainsFunc(ranges, func(o netip.Prefix) bool { return o == r.Dst || inside(r.Dst, o) })
		if to := hostOrPrefix(r.Dst); !overruled && !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	return out
}

// first is the route of main to a destination that the kernel takes: of the
// lowest metric, the first.
func (s *State) first(dst netip.Prefix) *Route {
	var best *Route
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Table == unix.RT_TABLE_MAIN && r.Dst == dst && (best == nil || r.Metric < best.Metric) {
			best = r
		}
	}
	return best
}

// everythingElse names the families whose default route a NIC has.
func everythingElse(nic string, have *State, both bool) []string {
	var out []string
	for _, ipv6 := range families() {
		if slices.ContainsFunc(defaultLike(have.main(unicast), ipv6), func(r Route) bool { return r.by(nic) }) {
			out = append(out, familyName(ipv6))
		}
	}
	switch {
	case len(out) == 2 || len(out) == 1 && !both:
		return []string{"everything else"}
	case len(out) == 1:
		return []string{"everything else of " + out[0]}
	}
	return nil
}
