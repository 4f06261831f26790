package routetest

import (
	"net"
	"strconv"
)

// family is 4 or 6.
type family int

const (
	v4 family = 4
	v6 family = 6
)

func (f family) String() string { return "IPv" + strconv.Itoa(int(f)) }

func families() []family { return []family{v4, v6} }

// pair is one thing of both families: an address, a range, an address with
// its prefix length. "" is none.
type pair struct{ v4, v6 string }

func (p pair) of(f family) string {
	if f == v6 {
		return p.v6
	}
	return p.v4
}

// all are those that are there.
func (p pair) all() []string {
	var out []string
	for _, f := range families() {
		if text := p.of(f); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// with sets the one of a family.
func (p *pair) with(f family, text string) {
	if f == v6 {
		p.v6 = text
		return
	}
	p.v4 = text
}

func familyOf(ip net.IP) family {
	if ip.To4() != nil {
		return v4
	}
	return v6
}

// anyAddress is what a server binds to be reached at every address.
func anyAddress(f family) string {
	if f == v6 {
		return "::"
	}
	return "0.0.0.0"
}
