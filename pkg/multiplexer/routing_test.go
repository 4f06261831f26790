package multiplexer_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// list of plugins, a network.
func conflist(name string, plugins ...obj) obj {
	var list []any
	for _, p := range plugins {
		list = append(list, p)
	}
	return obj{"cniVersion": "1.0.0", "name": name, "plugins": list}
}

// static gives addresses, each with its gateway if it names one, and routes.
func static(addresses []string, routes ...any) obj {
	var list []any
	for _, a := range addresses {
		address, gateway, ok := strings.Cut(a, " via ")
		entry := obj{"address": address}
		if ok {
			entry["gateway"] = gateway
		}
		list = append(list, entry)
	}
	return obj{"type": "static", "addresses": list, "routes": append([]any{}, routes...)}
}

func to(dst string, more ...any) obj {
	r := obj{"dst": dst}
	for i := 0; i+1 < len(more); i += 2 {
		r[more[i].(string)] = more[i+1]
	}
	return r
}

// realCluster is a bridge with both families, named after the test's pod so
// that tests on one node do not share it.
func (f *fixture) realCluster() *fixture {
	f.Helper()
	f.write("net.d/10-cluster.conflist", conflist("cluster", obj{
		"type": "bridge", "bridge": "cni0",
		"ipam": static([]string{"10.244.7.3/24 via 10.244.7.1", "fd00:244::3/64 via fd00:244::1"}, to("0.0.0.0/0"), to("::/0"), to("10.244.0.0/16")),
	}))
	return f
}

// ip runs ip(8) in the pod.
func (f *fixture) ip(args ...string) string {
	f.Helper()
	out, err := f.node.Output("ip", append([]string{"-n", f.pod.Name()}, args...)...)
	if err != nil {
		f.Fatalf("ip %v: %v", args, err)
	}
	return string(out)
}

// defaults are main's default routes, without what varies.
func (f *fixture) defaults() []string {
	f.Helper()
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(f.ip(family, "-o", "route", "show", "table", "main")) {
			fields := strings.Fields(line)
			if slices.Contains([]string{"default", "0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"}, fields[0]) {
				out = append(out, strings.Join(fields[:min(5, len(fields))], " "))
			}
		}
	}
	return out
}

// delegates are networks as their authors write them, by name.
func delegates() map[string]obj {
	bridge := func(ipam obj) obj { return obj{"type": "bridge", "bridge": "br-a", "ipam": ipam} }
	both := []string{"10.50.0.2/24 via 10.50.0.1", "fd50::2/64 via fd50::1"}
	halves := []any{to("0.0.0.0/1"), to("128.0.0.0/1"), to("::/1"), to("8000::/1")}
	return map[string]obj{
		"bridge":             bridge(static(both)),
		"defaults":           bridge(static(both, to("0.0.0.0/0"), to("::/0"))),
		"halves":             bridge(static(both, halves...)),
		"defaults and more":  bridge(static(both, to("0.0.0.0/0"), to("10.99.0.0/16"), to("fd99::/48", "gw", "fd50::9"))),
		"gateway elsewhere":  bridge(static(both, to("0.0.0.0/0", "gw", "10.50.0.254"))),
		"priority":           bridge(static(both, to("0.0.0.0/0", "priority", 7), to("::/0", "priority", 7))),
		"table":              bridge(static(both, to("0.0.0.0/0", "table", 77), to("10.98.0.0/16", "table", 77))),
		"scope":              bridge(static([]string{"10.50.0.2/24"}, to("10.97.0.0/16", "scope", 253))),
		"no gateway":         bridge(static([]string{"10.50.0.2/24", "fd50::2/64"}, to("10.96.0.0/16"))),
		"no gateway default": bridge(static([]string{"10.50.0.2/24"}, to("0.0.0.0/0"))),
		"mtu":                bridge(static(both, to("10.95.0.0/16", "mtu", 1300), to("0.0.0.0/0", "mtu", 1300, "advmss", 1200))),
		"no ip":              {"type": "macvlan", "master": "up0"},
		"macvlan":            {"type": "macvlan", "master": "up0", "ipam": static(both, to("0.0.0.0/0"), to("::/0"))},
		"ptp":                {"type": "ptp", "ipam": static(both, to("0.0.0.0/0"), to("::/0"))},
		"host-device":        {"type": "host-device", "device": "hd0", "ipam": static(both, to("0.0.0.0/0"), to("::/0"))},
	}
}

// hostLinks are what macvlan and host-device need of the node.
func (f *fixture) hostLinks() {
	f.Helper()
	h, err := f.node.Handle()
	f.must(err)
	for _, name := range []string{"up0", "hd0"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		f.must(h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-far"}))
		for _, end := range []string{name, name + "-far"} {
			link, lookup := h.LinkByName(end)
			f.must(lookup)
			f.must(h.LinkSetUp(link))
		}
	}
}

// Whatever a network's plugins do to the main table, the cluster network's
// default routes are the only ones, CHECK agrees at once, and DEL leaves
// nothing in a namespace that is kept.
func TestRoutingTakesDelegatesAsTheyCome(t *testing.T) {
	for name, plugin := range delegates() {
		for _, chain := range []string{"", "tuning", "sbr"} {
			if chain == "sbr" && name == "no ip" {
				continue // sbr refuses a network without addresses
			}
			t.Run(name+" "+chain, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t).realCluster()
				f.hostLinks()
				plugins := []obj{plugin}
				switch chain {
				case "sbr":
					plugins = append(plugins, obj{"type": "sbr"})
				case "tuning":
					plugins = append(plugins, obj{"type": "tuning", "sysctl": obj{
						"net.ipv4.conf.IFNAME.rp_filter": "1", "net.ipv4.conf.IFNAME.arp_ignore": "0"}})
				}
				f.write("conf/a.conflist", conflist("a", plugins...))
				f.networks("a")
				before := f.snapshot()
				f.ok("ADD", "c1")
				f.ok("CHECK", "c1")
				f.want(f.defaults(), []string{"default via 10.244.7.1 dev eth0", "default via fd00:244::1 dev eth0"})
				f.ok("DEL", "c1")
				f.tidy()
				f.samePod(before)
			})
		}
	}
}

// tidy removes what the plugin bridge keeps, and sets up what host-device
// gives back down.
func (f *fixture) tidy() {
	f.Helper()
	h, err := f.node.Handle()
	f.must(err)
	for _, name := range []string{"br-a", "cni0"} {
		if link, lookup := h.LinkByName(name); lookup == nil {
			f.must(h.LinkDel(link))
		}
	}
	link, err := h.LinkByName("hd0")
	f.must(err)
	f.must(h.LinkSetUp(link))
}

// samePod compares what DEL must not leave in the pod and in the stores.
func (f *fixture) samePod(before string) {
	f.Helper()
	of := func(snapshot string) []string {
		return slices.DeleteFunc(strings.Split(withoutIPAM(snapshot), "\n"), func(line string) bool { return strings.HasPrefix(line, "node ") })
	}
	f.want(of(f.snapshot()), of(before))
}

// odd is a plugin that runs commands in the pod's namespace at ADD and prints
// a result, both with NIC for the interface that was asked for.
func (f *fixture) odd(result string, commands ...string) obj {
	f.Helper()
	f.path = append(f.path, f.file("bin"))
	script := `#!/bin/sh
exec 2>&1
set -e
cat >/dev/null
NIC=$CNI_IFNAME
case $CNI_COMMAND in
ADD)
	nsenter --net="$CNI_NETNS" sh -e <<END
ip link add $NIC type veth peer name $NIC-far
ip link set $NIC up
ip link set $NIC-far up
` + strings.Join(commands, "\n") + `
END
	cat <<END
` + result + `
END
	;;
DEL) nsenter --net="$CNI_NETNS" ip link del $NIC || true;;
esac
`
	f.write("bin/odd", script)
	f.must(os.Chmod(f.file("bin/odd"), 0o755))
	return obj{"type": "odd"}
}

// Networks whose result says nothing, or not what they did, are taken too.
func TestRoutingOfStrangeNetworks(t *testing.T) {
	const address = "ip addr add 10.50.0.2/24 dev $NIC; ip -6 addr add fd50::2/64 dev $NIC nodad"
	const named = `{"cniVersion":"1.0.0","interfaces":[{"name":"$NIC","sandbox":"$CNI_NETNS"}],"ips":[{"address":"10.50.0.2/24","interface":0},{"address":"fd50::2/64","interface":0}]}`
	for name, test := range map[string]struct {
		result   string
		commands []string
		rules    []string // words of `ip rule`
	}{
		"no interface in the result":  {`{"cniVersion":"1.0.0","ips":[{"address":"10.50.0.2/24"}]}`, []string{address}, []string{"from 10.50.0.2 lookup 30001"}},
		"an empty result":             {`{"cniVersion":"1.0.0"}`, []string{address}, []string{"from 10.50.0.2 lookup 30001"}},
		"an interface that it hides":  {`{"cniVersion":"1.0.0"}`, []string{"ip addr add 10.50.0.2/24 dev $NIC-far", "ip route append default via 10.50.0.9 dev $NIC-far"}, []string{"from 10.50.0.2 lookup 30002"}},
		"two interfaces":              {`{"cniVersion":"1.0.0","interfaces":[{"name":"$NIC-far","sandbox":"x"},{"name":"$NIC","sandbox":"x"}]}`, []string{address, "ip addr add 10.51.0.2/24 dev $NIC-far"}, []string{"from 10.50.0.2 lookup 30001", "from 10.51.0.2 lookup 30002"}},
		"a default by eth0":           {named, []string{address, "ip route add default via 10.244.7.9 dev eth0 metric 5", "ip -6 route add default via fd00:244::9 dev eth0 metric 5"}, nil},
		"the cluster's default gone":  {named, []string{address, "ip route del default", "ip -6 route del default"}, nil},
		"the cluster's replaced":      {named, []string{address, "ip route replace default via 10.50.0.1 dev $NIC", "ip -6 route replace default via fd50::1 dev $NIC"}, nil},
		"one multipath default":       {named, []string{address, "ip route replace default nexthop via 10.244.7.1 dev eth0 nexthop via 10.50.0.1 dev $NIC"}, nil},
		"an IPv6 next hop more":       {named, []string{address, "ip -6 route append default via fd50::1 dev $NIC", "ip -6 route append default via fd50::9 dev $NIC"}, nil},
		"one that a dump hides":       {named, []string{address, "ip -6 route append default dev $NIC", "ip -6 route append default via fd50::1 dev $NIC"}, nil},
		"a default without a gateway": {named, []string{address, "ip route append default dev $NIC", "ip -6 route append default dev $NIC"}, nil},
		"quarters":                    {named, []string{address, "for p in 0 64 128 192; do ip route add \\$p.0.0.0/2 via 10.50.0.1 dev $NIC; done"}, nil},
		"halves of two NICs":          {named, []string{address, "ip addr add 10.51.0.2/24 dev $NIC-far", "ip route add 0.0.0.0/1 via 10.50.0.1 dev $NIC", "ip route add 128.0.0.0/1 via 10.51.0.1 dev $NIC-far"}, nil},
		"down":                        {`{"cniVersion":"1.0.0"}`, []string{address, "ip route append default via 10.50.0.1 dev $NIC", "ip link set $NIC down"}, nil},
		"an address on two NICs":      {named, []string{address, "ip addr add 10.50.0.2/24 dev $NIC-far"}, nil},
		"a default of a service":      {named, []string{address, "ip route add 10.94.0.0/16 dev $NIC tos 0x08", "ip route append default via 10.50.0.1 dev $NIC tos 0x10"}, nil},
		"nowhere in its place":        {named, []string{address, "ip route replace unreachable default", "ip -6 route add blackhole default metric 7"}, nil},
		"nowhere before it":           {named, []string{address, "ip route prepend blackhole default", "ip route add prohibit 0.0.0.0/1", "ip route add prohibit 128.0.0.0/1"}, nil},
		"all that hosts can have":     {named, []string{address, "for p in 0.0.0.0/1 128.0.0.0/2 192.0.0.0/3; do ip route add \\$p via 10.50.0.1 dev $NIC; done; ip -6 route add 2000::/3 via fd50::1 dev $NIC"}, nil},
		"a gateway of zeros":          {`{"cniVersion":"1.0.0","interfaces":[{"name":"$NIC","sandbox":"$CNI_NETNS"}],"ips":[{"address":"10.50.0.2/24","gateway":"0.0.0.0","interface":0},{"address":"fd50::2/64","gateway":"::","interface":0}]}`, []string{address}, nil},
		"eth0's address for gateway":  {`{"cniVersion":"1.0.0","interfaces":[{"name":"$NIC","sandbox":"$CNI_NETNS"}],"ips":[{"address":"10.50.0.2/24","gateway":"10.244.7.3","interface":0}]}`, []string{address}, nil},
		"no route to its gateway":     {`{"cniVersion":"1.0.0","interfaces":[{"name":"$NIC","sandbox":"$CNI_NETNS"}],"ips":[{"address":"10.50.0.2/24","gateway":"10.50.0.1","interface":0}]}`, []string{"ip addr add 10.50.0.2/24 dev $NIC noprefixroute", "ip route add 10.50.0.1 dev $NIC", "ip route add 10.92.0.0/16 via 10.50.0.1 dev $NIC", "ip route del 10.50.0.1"}, nil},
		"an IPv4 address as IPv6":     {named, []string{address, "ip -6 addr add ::ffff:10.9.9.9/128 dev $NIC"}, nil},
		"via the other family":        {named, []string{address, "ip route append default via inet6 fd50::1 dev $NIC", "ip route add 10.93.0.0/16 via inet6 fd50::1 dev $NIC"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).realCluster()
			f.hostLinks()
			f.write("conf/a.conflist", conflist("a", f.odd(test.result, test.commands...)))
			f.networks("a")
			before := f.snapshot()
			f.ok("ADD", "c1")
			f.ok("CHECK", "c1")
			f.want(f.defaults(), []string{"default via 10.244.7.1 dev eth0", "default via fd00:244::1 dev eth0"})
			for _, to := range []string{"192.0.2.1", "200.1.1.1", "2001:db8::1"} {
				if route := f.ip("route", "get", to); !strings.Contains(route, "dev eth0") {
					t.Errorf("%s is reached so: %s", to, route)
				}
			}
			for _, want := range append(test.rules, "from 10.244.7.3 lookup 30000") {
				if rules := f.ip("rule"); !strings.Contains(rules, want) {
					t.Errorf("no rule %q:\n%s", want, rules)
				}
			}
			f.ok("DEL", "c1")
			f.tidy()
			f.samePod(before)
		})
	}
}

// Where IPv6 is off, ranges of it change nothing; where only a secondary has
// it, they are unreachable rather than the secondary's.
func TestRoutingWhereIPv6IsOff(t *testing.T) {
	for name, test := range map[string]struct {
		addresses []string
		off       string
		lookup    string // of an address in the cluster's IPv6 range
	}{
		"everywhere":             {[]string{"10.50.0.9/24 via 10.50.0.1"}, "all default lo eth0", ""},
		"in the cluster network": {[]string{"10.50.0.9/24 via 10.50.0.1", "fd50::9/64 via fd50::1"}, "eth0", "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.config = obj{"clusterCIDRs": known()}
			off := obj{}
			for link := range strings.FieldsSeq(test.off) {
				off["net.ipv6.conf."+link+".disable_ipv6"] = "1"
			}
			f.write("net.d/10-cluster.conflist", conflist("cluster", obj{"type": "bridge", "bridge": "cni0", "ipam": static([]string{"10.244.7.3/24 via 10.244.7.1"}, to("0.0.0.0/0"))},
				obj{"type": "tuning", "sysctl": off}))
			f.write("conf/a.conflist", conflist("a", obj{"type": "bridge", "bridge": "br-a", "ipam": static(test.addresses, to("0.0.0.0/0"), to("::/0"))}))
			if len(test.addresses) == 1 {
				f.write("conf/a.conflist", conflist("a", obj{"type": "bridge", "bridge": "br-a", "ipam": static(test.addresses, to("0.0.0.0/0"))}))
			}
			f.networks("a").ok("ADD", "c1")
			f.ok("CHECK", "c1")
			f.want(f.defaults()[0], "default via 10.244.7.1 dev eth0")
			if test.lookup != "" {
				out, _ := f.node.Output("ip", "-n", f.pod.Name(), "-6", "route", "get", "fd00:244::77")
				f.want(strings.Contains(string(out), "dev net1"), false)
				f.want(strings.Contains(f.ip("-6", "route", "get", "2001:db8::1"), "dev net1"), true)
			}
			f.ok("DEL", "c1")
		})
	}
}

// A NIC that the pod sets down and up again reaches its subnet as before, and
// nothing of it leaves by another NIC meanwhile.
func TestRoutingAfterANICWasDown(t *testing.T) {
	f := newFixture(t).realCluster()
	f.write("conf/a.conflist", conflist("a", obj{"type": "bridge", "bridge": "br-a", "ipam": static([]string{"10.50.0.9/24 via 10.50.0.1", "fd50::9/64 via fd50::1"})}))
	f.networks("a").ok("ADD", "c1")
	from := func(source, to string) string {
		out, _ := f.node.Output("ip", "-n", f.pod.Name(), "route", "get", to, "from", source)
		return string(out)
	}
	f.want(strings.Contains(from("10.50.0.9", "10.50.0.77"), "dev net1"), true)
	f.want(strings.Contains(from("10.50.0.9", "192.0.2.1"), "via 10.50.0.1 dev net1"), true)
	f.ip("link", "set", "net1", "down")
	f.want(strings.Contains(from("10.50.0.9", "10.50.0.77"), "dev"), false)
	f.ip("link", "set", "net1", "up")
	f.want(strings.Contains(from("10.50.0.9", "10.50.0.77"), "dev net1"), true)
	f.want(strings.Contains(from("fd50::9", "fd50::77"), "dev net1"), true)
	f.want(strings.Contains(from("10.50.0.9", "192.0.2.1"), "dev"), false)
	f.refused(f.call("CHECK", "c1", nil), 999, "route", "table 30001")
	f.ok("DEL", "c1")
}

// DEL goes by the journal: a value that ADD refuses does not keep a pod.
func TestDELWithARefusedConfiguration(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.networks("a").ok("ADD", "c1")
	f.config = obj{"routing": obj{"mode": "guards"}, "clusterCIDRs": []string{"ten"}, "timeout": obj{"add": "no"}, "logLevel": "loud"}
	f.refused(f.call("ADD", "c2", nil), 7)
	f.ok("DEL", "c1")
	f.want(f.calls()[len(f.calls())-2:], []string{"DEL a net1", "DEL cluster eth0"})
	f.config = obj{"stateDir": "state"}
	f.refused(f.call("DEL", "c1", nil), 7, "stateDir")
}

// A plugin that is not embedded, or not any more, keeps no pod either; which
// ones are embedded counts, whatever else is refused.
func TestDELWithARefusedEmbedded(t *testing.T) {
	f := newFixture(t)
	f.path = append(f.path, nettest.RecorderAs(t, "sriov"))
	own := f.list("own", "10.50.0.0/24", nil)
	own["plugins"].([]any)[0].(obj)["type"] = "sriov"
	f.write("conf/own.conflist", own)
	f.networks("own")
	for name, config := range map[string]obj{
		"unknown":          {"embedded": []string{"fixipam", "fancy"}},
		"beside a mistake": {"embedded": []string{}, "logLevel": "loud"},
	} {
		f.config = obj{"embedded": []string{}}
		f.ok("ADD", "c1")
		f.config = config
		refused := f.call("ADD", "c2", nil)
		if refused.Error() == nil {
			t.Fatalf("%s: ADD succeeded", name)
		}
		f.forget()
		out := f.ok("DEL", "c1")
		f.want(f.calls(), []string{"DEL own net1", "DEL cluster eth0"})
		if said := strings.Contains(string(out.Stderr), `no plugin \"fancy\" of its own`); said != (name == "unknown") {
			t.Errorf("%s: standard error: %s", name, out.Stderr)
		}
	}
	f.config = obj{"embedded": "sriov"}
	f.forget()
	f.ok("DEL", "c1") // says nothing of use: as if it were not there
	f.want(f.calls(), []string{"DEL cluster eth0"})
	f.config = obj{"embedded": []string{"fancy"}}
	if out, err := f.release(); err != nil {
		t.Errorf("release: %v\n%s", err, out)
	}
}

// The cluster network's halves and a secondary's whole do not mix.
func TestRoutingOfAClusterInHalves(t *testing.T) {
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", conflist("cluster", obj{"type": "bridge", "bridge": "cni0",
		"ipam": static([]string{"10.244.7.3/24 via 10.244.7.1"}, to("0.0.0.0/1"), to("128.0.0.0/1"))}))
	f.write("conf/a.conflist", conflist("a", obj{"type": "bridge", "bridge": "br-a", "ipam": static([]string{"10.50.0.9/24 via 10.50.0.1"}, to("0.0.0.0/1"), to("0.0.0.0/0"))}))
	f.networks("a").ok("ADD", "c1")
	f.ok("CHECK", "c1")
	f.want(f.defaults(), []string{"0.0.0.0/1 via 10.244.7.1 dev eth0", "128.0.0.0/1 via 10.244.7.1 dev eth0"})
	f.ok("DEL", "c1")
}

// A rule of a plugin's own that comes first is named.
func TestRoutingNamesForeignRules(t *testing.T) {
	f := newFixture(t).realCluster()
	f.write("conf/a.conflist", conflist("a", f.odd(`{"cniVersion":"1.0.0"}`, "ip addr add 10.50.0.2/24 dev $NIC", "ip rule add pref 100 to 192.0.2.0/24 lookup 77")))
	out := f.networks("a").ok("ADD", "c1")
	if !strings.Contains(string(out.Stderr), "100: to 192.0.2.0/24 lookup 77") {
		t.Errorf("standard error: %s", out.Stderr)
	}
	f.ok("DEL", "c1")
}

// DEL detaches and ends the journal, whatever became of the namespace and of
// the journal's plan meanwhile.
func TestDELInADamagedNamespace(t *testing.T) {
	for name, harm := range map[string]func(f *fixture){
		"eth0 is down": func(f *fixture) { f.ip("link", "set", "eth0", "down") },
		"eth0 is gone": func(f *fixture) { f.ip("link", "del", "eth0") },
		"no rules":     func(f *fixture) { f.ip("rule", "flush") },
		"damaged plan": func(f *fixture) { f.replan(`{"nics":5}`) },
		"empty plan":   func(f *fixture) { f.replan(`null`) },
		"odd plan":     func(f *fixture) { f.replan(`{"removed":[{"table":254,"dev":"eth0"}],"added":[{"table":254}]}`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).realCluster()
			f.config = obj{"clusterCIDRs": known()}
			f.wan("a")
			f.networks(`[{"name":"a","default-route":["10.50.0.1"]}]`).ok("ADD", "c1")
			harm(f)
			if e := f.call("CHECK", "c1", nil).Error(); e == nil {
				t.Error("CHECK finds nothing")
			}
			f.ok("DEL", "c1")
			if left := f.ip("rule"); strings.Contains(left, "3000") {
				t.Errorf("rules are left:\n%s", left)
			}
			if _, err := os.Stat(f.file("state/journal/c1")); err == nil {
				t.Error("the journal is left")
			}
		})
	}
}

// replan puts another routing plan into the journal.
func (f *fixture) replan(plan string) {
	f.Helper()
	line := fmt.Sprintf(`{"e":"routing","t":"2026-01-01T00:00:00Z","routing":%s}`, plan)
	journal, err := os.OpenFile(f.file("state/journal/c1"), os.O_APPEND|os.O_WRONLY, 0)
	f.must(err)
	_, err = fmt.Fprintf(journal, "%08x %s\n", crc32.ChecksumIEEE([]byte(line)), line)
	f.must(err)
	f.must(journal.Close())
}
