package routing

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// to are routes to the destinations of a list.
func routesTo(list string) []Route {
	var out []Route
	for _, p := range prefixes(list) {
		out = append(out, Route{Dst: p})
	}
	return out
}

func dstsOf(routes []Route) string {
	var out []string
	for _, r := range routes {
		out = append(out, r.Dst.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestDefaultLike(t *testing.T) {
	for name, test := range map[string]struct{ routes, four, six string }{
		"nothing":                  {},
		"a default":                {"0.0.0.0/0", "0.0.0.0/0", ""},
		"of both families":         {"0.0.0.0/0 ::/0", "0.0.0.0/0", "::/0"},
		"halves":                   {"0.0.0.0/1 128.0.0.0/1", "0.0.0.0/1 128.0.0.0/1", ""},
		"halves in another order":  {"8000::/1 10.0.0.0/8 ::/1", "", "8000::/1 ::/1"},
		"quarters":                 {"128.0.0.0/2 0.0.0.0/2 192.0.0.0/2 64.0.0.0/2", "0.0.0.0/2 128.0.0.0/2 192.0.0.0/2 64.0.0.0/2", ""},
		"a half and two quarters":  {"128.0.0.0/2 0.0.0.0/1 192.0.0.0/2", "0.0.0.0/1 128.0.0.0/2 192.0.0.0/2", ""},
		"half of each family":      {"0.0.0.0/1 8000::/1", "", ""},
		"a half":                   {"0.0.0.0/1", "", ""},
		"the other half":           {"128.0.0.0/1", "", ""},
		"a quarter is missing":     {"0.0.0.0/1 192.0.0.0/2", "", ""},
		"subnets are none":         {"0.0.0.0/0 10.0.0.0/8 10.1.0.0/16", "0.0.0.0/0", ""},
		"subnets in halves":        {"0.0.0.0/1 128.0.0.0/1 10.0.0.0/8", "0.0.0.0/1 128.0.0.0/1", ""},
		"a half twice":             {"0.0.0.0/1 0.0.0.0/1 128.0.0.0/1", "0.0.0.0/1 0.0.0.0/1 128.0.0.0/1", ""},
		"a default and its halves": {"0.0.0.0/0 0.0.0.0/1 128.0.0.0/1", "0.0.0.0/0 0.0.0.0/1 128.0.0.0/1", ""},
		"halves and their quarters": {
			"0.0.0.0/1 128.0.0.0/1 0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2",
			"0.0.0.0/1 0.0.0.0/2 128.0.0.0/1 128.0.0.0/2 192.0.0.0/2 64.0.0.0/2", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			routes := routesTo(test.routes)
			for ipv6, want := range map[bool]string{false: test.four, true: test.six} {
				if have := dstsOf(defaultLike(routes, ipv6)); have != want {
					t.Errorf("%s: %q, want %q", familyName(ipv6), have, want)
				}
			}
		})
	}
}

// Two definitions of the same agree on anything.
func TestDefaultLikeIsWholeOf(t *testing.T) {
	lists := strings.Fields("0.0.0.0/0 0.0.0.0/1 128.0.0.0/1 0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2 64.0.0.0/3 96.0.0.0/3 224.0.0.0/3 1.0.0.0/8")
	for chosen := range 1 << len(lists) {
		var list []string
		for i, dst := range lists {
			if chosen&(1<<i) != 0 {
				list = append(list, dst)
			}
		}
		routes := routesTo(strings.Join(list, " "))
		if have, want := dstsOf(defaultLike(routes, false)), dstsOf(wholeOf(routes, false)); have != want {
			t.Fatalf("of %v: %q, want %q", list, have, want)
		}
	}
}

func TestInside(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"10.1.0.0/16", "10.0.0.0/8", true},
		{"10.0.0.0/8", "10.0.0.0/8", false},
		{"10.0.0.0/8", "10.1.0.0/16", false},
		{"10.1.0.0/16", "11.0.0.0/8", false},
		{"10.1.0.0/16", "::/0", false},
		{"fd00::/64", "::/0", true},
	} {
		if have := inside(netip.MustParsePrefix(test.a), netip.MustParsePrefix(test.b)); have != test.want {
			t.Errorf("%s inside %s: %v", test.a, test.b, have)
		}
	}
}

func TestLastOf(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.5/24": "10.0.0.255", "10.0.0.5/32": "10.0.0.5", "0.0.0.0/0": "255.255.255.255", "128.0.0.0/1": "255.255.255.255", "10.8.0.0/13": "10.15.255.255",
		"fd00::/64": "fd00::ffff:ffff:ffff:ffff", "::/1": "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		if have := lastOf(netip.MustParsePrefix(prefix)); have.String() != want {
			t.Errorf("of %s: %s, want %s", prefix, have, want)
		}
	}
}

func TestOutermost(t *testing.T) {
	for list, want := range map[string]string{
		"":                                   "[]",
		"10.1.0.0/16 10.0.0.0/8 10.2.3.0/24": "[10.0.0.0/8]",
		"10.96.0.0/12 10.244.0.0/16 10.96.0.0/12": "[10.96.0.0/12 10.244.0.0/16]",
		"fd00::/8 10.0.0.0/8 0.0.0.0/0":           "[0.0.0.0/0 fd00::/8]",
	} {
		out := []string{}
		for _, p := range outermost(prefixes(list)) {
			out = append(out, p.String())
		}
		if have := "[" + strings.Join(out, " ") + "]"; have != want {
			t.Errorf("of %q: %s, want %s", list, have, want)
		}
	}
}
