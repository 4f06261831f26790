package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// planned are the settings of net1 (and "eth0 ..." of eth0) that R5 plans.
func planned(t *testing.T, w *world) []string {
	t.Helper()
	plan, err := Decide(w.input())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range plan.Sysctls {
		parts := strings.Split(s.Key, "/")
		name := parts[3] + "=" + s.Want
		if parts[2] != "net1" {
			name = parts[2] + " " + name
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Of eth0 and net1, what R5 plans beyond, or instead of, the usual.
func TestLeaks(t *testing.T) {
	usual := []string{"accept_ra=0", "arp_announce=2", "arp_ignore=1", "autoconf=0", "eth0 arp_announce=2", "eth0 arp_ignore=1"}
	const conf = "ipv4/conf/"
	for name, test := range map[string]struct {
		set    map[string]string // settings
		tuning string            // the definition of net1 sets
		less   string            // than usual, by a space
		more   string
	}{
		"usual":                             {},
		"all/arp_ignore is 1":               {set: map[string]string{conf + "all/arp_ignore": "1"}, less: "arp_ignore=1,eth0 arp_ignore=1"},
		"all/arp_ignore is 2":               {set: map[string]string{conf + "all/arp_ignore": "2"}, less: "arp_ignore=1,eth0 arp_ignore=1"},
		"all/arp_announce is 1":             {set: map[string]string{conf + "all/arp_announce": "1"}},
		"all/arp_announce is 2":             {set: map[string]string{conf + "all/arp_announce": "2"}, less: "arp_announce=2,eth0 arp_announce=2"},
		"net1 ignores ARP already":          {set: map[string]string{conf + "net1/arp_ignore": "8"}, less: "arp_ignore=1"},
		"strict rp_filter on net1":          {set: map[string]string{conf + "net1/rp_filter": "1"}, more: "rp_filter=2"},
		"strict rp_filter everywhere":       {set: map[string]string{conf + "all/rp_filter": "1"}, more: "eth0 rp_filter=2,rp_filter=2"},
		"loose rp_filter everywhere":        {set: map[string]string{conf + "all/rp_filter": "2", conf + "net1/rp_filter": "1"}},
		"loose rp_filter on net1":           {set: map[string]string{conf + "net1/rp_filter": "2"}},
		"tuning sets arp_ignore":            {tuning: "net.ipv4.conf.IFNAME.arp_ignore", less: "arp_ignore=1"},
		"tuning sets rp_filter":             {tuning: "net.ipv4.conf.IFNAME.rp_filter", set: map[string]string{conf + "net1/rp_filter": "1"}},
		"tuning sets it by name":            {tuning: "net/ipv4/conf/net1/arp_announce", less: "arp_announce=2"},
		"tuning sets that of eth0 for none": {tuning: "net.ipv4.conf.eth0.arp_ignore"},
		"tuning sets accept_ra off":         {tuning: "net.ipv6.conf.IFNAME.accept_ra", less: "accept_ra=0"},
		"tuning sets autoconf":              {tuning: "net.ipv6.conf.IFNAME.autoconf", less: "autoconf=0"},
		"SLAAC asked": {
			tuning: "net.ipv6.conf.IFNAME.accept_ra", set: map[string]string{"ipv6/conf/net1/accept_ra": "2"},
			less: "accept_ra=0,autoconf=0", more: "accept_ra_defrtr=0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := pairWorld()
			for key, value := range test.set {
				w.do(op{kind: opSysctl, key: key, value: value})
			}
			if test.tuning != "" {
				w.parts[1].plugins = []string{fmt.Sprintf(`{"type":"tuning","sysctl":{%q:"x"}}`, test.tuning)}
			}
			want := slices.DeleteFunc(slices.Clone(usual), func(s string) bool { return slices.Contains(strings.Split(test.less, ","), s) })
			if test.more != "" {
				want = append(want, strings.Split(test.more, ",")...)
			}
			slices.Sort(want)
			if have := planned(t, w); !slices.Equal(have, want) {
				t.Errorf("planned %v\nwant %v", have, want)
			}
		})
	}
}

// A kernel without IPv6 has no such settings, and gets none.
func TestLeaksWithoutIPv6(t *testing.T) {
	w := pairWorld()
	w.noIPv6 = true
	for _, s := range planned(t, w) {
		if strings.HasPrefix(s, "accept_ra") || strings.HasPrefix(s, "autoconf") {
			t.Error(s)
		}
	}
}

// A network whose definition wants SLAAC is named; it takes default routes
// from routers only if it carries the default route.
func TestRoutersAreBelieved(t *testing.T) {
	w := pairWorld()
	w.do(op{kind: opSysctl, key: "ipv6/conf/net1/accept_ra", value: "1"})
	plan, err := Decide(w.input())
	if err != nil || len(plan.Warnings) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	contains(t, plan.Warnings[0], `"shop/n1" (net1) accept_ra of net1 have no rule`)
	w.parts[1].asked = asked("fd50::1")
	if have := planned(t, w); slices.Contains(have, "accept_ra_defrtr=0") {
		t.Errorf("net1 carries the default route, and yet %v", have)
	}
}

// Routes that a router advertised go, of a secondary that does not believe it.
func TestLearntRoutesGo(t *testing.T) {
	for name, test := range map[string]struct {
		dev, accept string
		gone        bool
	}{
		"a secondary's":              {"net1", "0", true},
		"where SLAAC is wanted":      {"net1", "1", false},
		"the cluster network's stay": {"eth0", "0", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := pairWorld()
			w.do(op{kind: opSysctl, key: "ipv6/conf/net1/accept_ra", value: test.accept})
			r := direct(test.dev, netip.MustParsePrefix("2001:db8:5::/64"))
			r.Protocol = unix.RTPROT_RA
			w.do(op{kind: opRoute, route: r, mode: appended})
			plan, err := Decide(w.input())
			if err != nil {
				t.Fatal(err)
			}
			if gone := keysOf(plan.Removed)[r.key()]; gone != test.gone {
				t.Errorf("gone %v: %v", gone, plan.Removed)
			}
		})
	}
}
