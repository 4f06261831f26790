package routing

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// op is one thing that a network's plugins do in a pod's namespace. Only the
// fields that its kind needs are set.
type op struct {
	kind   opKind
	dev    string
	prefix netip.Prefix
	route  Route
	mode   mode
	rule   Rule
	key    string
	value  string
}

type opKind int

const (
	opLink opKind = iota
	opDown
	opAddress
	opRoute
	opUnroute
	opRule
	opSysctl
)

// do carries an op out, and reports whether the kernel takes it.
func (k *kernel) do(o op) bool {
	switch o.kind {
	case opLink:
		return k.addLink(o.dev)
	case opDown:
		return k.setDown(o.dev)
	case opAddress:
		return k.addAddress(o.dev, o.prefix)
	case opRoute:
		return k.addRoute(&o.route, o.mode)
	case opUnroute:
		return k.delRoute(&o.route)
	case opRule:
		return k.addRule(o.rule)
	default:
		k.sysctls[o.key] = o.value
		return true
	}
}

// String shows the op as a command.
func (o op) String() string {
	switch o.kind {
	case opLink:
		return "ip link add " + o.dev + " up"
	case opDown:
		return "ip link set " + o.dev + " down"
	case opAddress:
		return fmt.Sprintf("ip addr add %s dev %s", o.prefix, o.dev)
	case opRoute:
		return fmt.Sprintf("ip route %s %s", [...]string{"prepend", "append", "replace"}[o.mode], routeText(&o.route))
	case opUnroute:
		return "ip route del " + routeText(&o.route)
	case opRule:
		return "ip rule add " + o.rule.String()
	}
	return fmt.Sprintf("sysctl net/%s=%s", o.key, o.value)
}

// routeText is Route.String with what that leaves out.
func routeText(r *Route) string {
	s := r.String()
	if isIPv6(r.Dst) && r.Dst.Bits() == 0 {
		s = "-6 " + s
	}
	if r.Onlink {
		s += " onlink"
	}
	if r.TOS != 0 {
		s += fmt.Sprintf(" tos %#x", r.TOS)
	}
	if r.Scope != 0 {
		s += fmt.Sprintf(" scope %d", r.Scope)
	}
	if r.Protocol == unix.RTPROT_RA {
		s += " proto ra"
	}
	return s
}
