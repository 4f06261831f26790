package multiplexer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// known are the cluster's ranges as an administrator names them.
func known() []string {
	return []string{"10.244.0.0/16", "10.96.0.0/12", "fd00:244::/48", "fd00:96::/112"}
}

// wan is a network with routers at .1 and .2 of its two subnets.
func (f *fixture) wan(name string, routes ...any) {
	f.Helper()
	f.write("conf/"+name+".conflist", conflist(name, obj{"type": "bridge", "bridge": "br-a", "ipam": static(
		[]string{"10.50.0.9/24 via 10.50.0.1", "fd50::9/64 via fd50::1"}, routes...)}))
}

// shown are a result's default routes and gateways, as it prints them.
func shown(r *current.Result) []string {
	var out []string
	for _, ip := range r.IPs {
		if ip.Gateway != nil {
			out = append(out, "gateway "+ip.Gateway.String())
		}
	}
	for _, route := range r.Routes {
		if ones, _ := route.Dst.Mask.Size(); ones == 0 {
			out = append(out, strings.TrimSpace(fmt.Sprintf("default %s %d", route.GW, route.Priority)))
		}
	}
	return out
}

// A selection's default-route decides who carries each family; the merged
// result and the kernel say the same.
func TestDefaultRoute(t *testing.T) {
	const (
		four = "default via 10.244.7.1 dev eth0"
		six  = "default via fd00:244::1 dev eth0"
	)
	for name, test := range map[string]struct {
		key    string
		routes []any // that the network sets by itself
		kernel []string
		result []string
	}{
		"one family": {`["10.50.0.1"]`, nil, []string{"default via 10.50.0.1 dev net1", six},
			[]string{"gateway fd00:244::1", "gateway 10.50.0.1", "gateway fd50::1", "default fd00:244::1 0", "default 10.50.0.1 0"}},
		"the other": {`["fd50::1"]`, nil, []string{four, "default via fd50::1 dev net1"},
			[]string{"gateway 10.244.7.1", "gateway 10.50.0.1", "gateway fd50::1", "default 10.244.7.1 0", "default fd50::1 0"}},
		"both": {`["fd50::1","10.50.0.1"]`, nil, []string{"default via 10.50.0.1 dev net1", "default via fd50::1 dev net1"},
			[]string{"gateway 10.50.0.1", "gateway fd50::1", "default 10.50.0.1 0", "default fd50::1 0"}},
		"several": {`["10.50.0.2","10.50.0.1","fd50::2","fd50::3"]`, nil,
			[]string{"default via 10.50.0.2 dev net1", "default via 10.50.0.1 dev net1", "default via fd50::2 dev net1", "default via fd50::3 dev net1"},
			[]string{"gateway 10.50.0.2", "gateway fd50::2", "default 10.50.0.2 0", "default 10.50.0.1 1", "default fd50::2 0", "default fd50::3 1025"}},
		"link-local": {`["fe80::1"]`, nil, []string{four, "default via fe80::1 dev net1"},
			[]string{"gateway 10.244.7.1", "gateway 10.50.0.1", "gateway fe80::1", "default 10.244.7.1 0", "default fe80::1 0"}},
		"in place of its own": {`["10.50.0.2"]`, []any{to("0.0.0.0/0"), to("::/0"), to("128.0.0.0/1"), to("0.0.0.0/1")}, []string{"default via 10.50.0.2 dev net1", six},
			[]string{"gateway fd00:244::1", "gateway 10.50.0.2", "gateway fd50::1", "default fd00:244::1 0", "default 10.50.0.2 0"}},
		"its own": {`[]`, []any{to("0.0.0.0/0")}, []string{"default via 10.50.0.1 dev net1", six},
			[]string{"gateway fd00:244::1", "gateway 10.50.0.1", "gateway fd50::1", "default fd00:244::1 0", "default 10.50.0.1 0"}},
		"its own halves": {`[]`, []any{to("0.0.0.0/1"), to("128.0.0.0/1", "gw", "10.50.0.2")},
			[]string{"0.0.0.0/1 via 10.50.0.1 dev net1", "128.0.0.0/1 via 10.50.0.2 dev net1", six},
			[]string{"gateway fd00:244::1", "gateway 10.50.0.1", "gateway fd50::1", "default fd00:244::1 0"}},
		"its own, and it has none": {`[]`, nil, []string{four, six},
			[]string{"gateway 10.244.7.1", "gateway fd00:244::1", "gateway 10.50.0.1", "gateway fd50::1", "default <nil> 0", "default <nil> 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).realCluster()
			f.config = obj{"clusterCIDRs": known()}
			f.hostLinks()
			f.wan("a", test.routes...)
			f.networks(`[{"name":"a","default-route":` + test.key + `}]`)
			before := f.snapshot()
			out := f.ok("ADD", "c1")
			f.ok("CHECK", "c1")
			f.want(f.defaults(), test.kernel)
			result, err := out.Result()
			f.must(err)
			f.want(shown(result), test.result)
			if silent := !strings.Contains(name, "none"); silent != (len(out.Stderr) == 0) {
				t.Errorf("standard error: %s", out.Stderr)
			}
			f.ok("DEL", "c1")
			f.tidy()
			f.samePod(before)
		})
	}
}

// A gateway that cannot be one is refused by name, and nothing stays.
func TestBadDefaultRoute(t *testing.T) {
	for name, test := range map[string]struct {
		networks string
		words    []string
	}{
		"not on the link": {`[{"name":"a","default-route":["10.51.0.1"]}]`, []string{`"a"`, "net1", "default-route", "10.51.0.1", "10.50.0.0/24"}},
		"its own address": {`[{"name":"a","default-route":["10.50.0.9"]}]`, []string{`"a"`, "10.50.0.9", "net1 itself"}},
		"a broadcast":     {`[{"name":"a","default-route":["10.50.0.255"]}]`, []string{`"a"`, "10.50.0.255", "no host's address", "10.50.0.0/24"}},
		"nobody":          {`[{"name":"a","default-route":["ff02::1"]}]`, []string{"default-route", "ff02::1", "no gateway address"}},
		"no such family":  {`[{"name":"four","default-route":["fd50::1"]}]`, []string{`"four"`, "fd50::1", "no IPv6 address"}},
		"no address":      {`[{"name":"bare","default-route":["10.50.0.1"]}]`, []string{`"bare"`, "10.50.0.1", "no IPv4 address"}},
		"no device":       {`[{"name":"none","default-route":["10.50.0.1"]}]`, []string{`"none"`, "default-route", "no kernel device"}},
		"twice":           {`[{"name":"a","default-route":["10.50.0.1"]},{"name":"four","default-route":[]}]`, []string{"default-route"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).realCluster()
			f.config = obj{"clusterCIDRs": known()}
			f.hostLinks()
			f.wan("a")
			f.write("conf/four.conflist", conflist("four", obj{"type": "bridge", "bridge": "br-a", "ipam": static([]string{"10.50.0.8/24"})}))
			f.write("conf/bare.conflist", conflist("bare", obj{"type": "macvlan", "master": "up0"}))
			f.write("conf/none.conflist", f.list("none", "10.52.0.0/24", nil))
			before := f.snapshot()
			f.networks(test.networks)
			f.refused(f.call("ADD", "c1", nil), 7, test.words...)
			f.tidy()
			f.samePod(before)
		})
	}
}

// A default route that moves while pods or Services are not known to be
// elsewhere is honoured with a warning, and refused when strict.
func TestMovedDefaultNeedsRanges(t *testing.T) {
	for name, test := range map[string]struct {
		ranges []string
		words  []string // none: nothing to say
	}{
		"nothing named":          {nil, []string{"Service range", "clusterCIDRs", "net1", "IPv4"}},
		"pods named":             {[]string{"10.244.0.0/16"}, []string{"cluster's Service range"}},
		"the node's slice named": {[]string{"10.96.0.0/12", "10.245.0.0/16"}, nil}, // flannel's own 10.244.0.0/16 is wider than the pod's subnet
		"both named":             {[]string{"10.244.0.0/16", "10.96.0.0/12"}, nil},
		"another family named":   {[]string{"fd00:244::/48", "fd00:96::/112"}, []string{"IPv4"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).realCluster()
			f.hostLinks()
			f.wan("a")
			f.networks(`[{"name":"a","default-route":["10.50.0.1"]}]`)
			f.config = obj{"clusterCIDRs": test.ranges}
			before := f.snapshot()
			warned := string(f.ok("ADD", "c1").Stderr)
			for _, word := range test.words {
				if !strings.Contains(warned, word) {
					t.Errorf("the warning lacks %q: %s", word, warned)
				}
			}
			if len(test.words) == 0 && warned != "" {
				t.Errorf("standard error: %s", warned)
			}
			f.want(f.defaults()[0], "default via 10.50.0.1 dev net1")
			f.ok("DEL", "c1")
			f.tidy()
			f.samePod(before)
			f.config["routing"] = obj{"strict": true}
			if len(test.words) == 0 {
				f.ok("ADD", "c1")
				f.ok("DEL", "c1")
			} else {
				f.refused(f.call("ADD", "c1", nil), 7, test.words...)
			}
			f.tidy()
			f.samePod(before)
		})
	}
}

// In plain mode, and for a pod with the cluster network alone, the namespace
// is what the delegates made of it.
func TestRoutingLeavesAlone(t *testing.T) {
	for name, config := range map[string]obj{"plain mode": {"routing": obj{"mode": "plain"}}, "no networks": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).realCluster()
			f.hostLinks()
			f.wan("a", to("0.0.0.0/0"), to("::/0"))
			f.config = config
			if config != nil {
				f.networks("a")
			}
			f.ok("ADD", "c1")
			f.ok("CHECK", "c1")
			for _, dump := range []string{f.ip("rule"), f.ip("-6", "rule"), f.ip("route", "show", "table", "all"), f.ip("-6", "route", "show", "table", "all")} {
				if strings.Contains(dump, "300") && slices.ContainsFunc(strings.Fields(dump), func(w string) bool { return strings.HasPrefix(w, "3000") || strings.HasPrefix(w, "301") }) {
					t.Errorf("rules or tables of the guard:\n%s", dump)
				}
			}
			for key, want := range map[string]string{"ipv4/conf/eth0/arp_ignore": "0", "ipv4/conf/eth0/arp_announce": "0", "ipv6/conf/default/accept_ra": "1"} {
				out, err := f.node.Output("nsenter", "--net="+f.pod.Path(), "cat", "/proc/sys/net/"+key)
				f.must(err)
				f.want(strings.TrimSpace(string(out)), want)
			}
			contents, err := f.node.Output("cat", f.file("state/journal/c1"))
			f.must(err)
			f.want(strings.Contains(string(contents), `"e":"routing"`), false)
			if config != nil {
				f.want(f.defaults()[0], "default via 10.50.0.1 dev net1") // it lands first
			}
			f.ok("DEL", "c1")
		})
	}
}

// A network without a kernel device (a VF for a user-space driver) changes
// nothing for the others, and keeps its place in the order of tables.
func TestDefaultRouteBesideANICWithoutKernelDevice(t *testing.T) {
	f := newFixture(t).realCluster()
	f.config = obj{"clusterCIDRs": known()}
	f.hostLinks()
	f.wan("a", to("0.0.0.0/0"))
	steps := obj{"CHECK": []any{}, "ADD": []any{obj{"result": obj{
		"cniVersion": "1.1.0", "interfaces": []any{obj{"name": "net1", "sandbox": f.pod.Path(), "pciID": "0000:03:02.1"}},
		"ips": []any{obj{"address": "10.60.0.2/24", "gateway": "10.60.0.1", "interface": 0}}, "routes": []any{obj{"dst": "0.0.0.0/0"}},
	}}}}
	f.write("conf/vfio.conflist", f.list("vfio", "10.60.0.0/24", steps))
	before := f.snapshot()
	out := f.networks(`[{"name":"vfio"},{"name":"a","default-route":["10.50.0.1"]}]`).ok("ADD", "c1")
	f.ok("CHECK", "c1")
	f.want(f.defaults(), []string{"default via 10.50.0.1 dev net2", "default via fd00:244::1 dev eth0"})
	if rules := f.ip("rule"); !strings.Contains(rules, "from 10.50.0.9 lookup 30002") || strings.Contains(rules, "10.60") {
		t.Errorf("rules:\n%s", rules)
	}
	result, err := out.Result()
	f.must(err)
	f.want(shown(result), []string{"gateway fd00:244::1", "gateway 10.50.0.1", "gateway fd50::1", "default fd00:244::1 0", "default 10.50.0.1 0"})
	f.ok("DEL", "c1")
	f.tidy()
	f.samePod(before)
	f.networks("vfio").ok("ADD", "c1")
	f.want(f.defaults(), []string{"default via 10.244.7.1 dev eth0", "default via fd00:244::1 dev eth0"})
	f.want(strings.Contains(f.ip("rule"), "30"), false)
	f.ok("CHECK", "c1")
	f.ok("DEL", "c1")
}
