package network

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/google/go-cmp/cmp"
	nettypes "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
)

// newest decodes a result as a delegate prints it.
func newest(t *testing.T, raw string) *current.Result {
	t.Helper()
	result, err := create.CreateFromBytes([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Newest(result)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func asked(gateways ...string) *[]netip.Addr {
	out := []netip.Addr{}
	for _, gw := range gateways {
		out = append(out, netip.MustParseAddr(gw))
	}
	return &out
}

// One rule, one entry, one golden.
func TestStatusOfOne(t *testing.T) {
	const gw = `"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"10.0.0.0/8","gw":"10.1.0.2"},{"dst":"::/0","gw":"fd00::1"}]`
	const net1 = `"interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","sandbox":"/n"}],"ips":[{"address":"10.1.0.5/16","interface":0}]`
	for name, c := range map[string]struct {
		result string
		asked  *[]netip.Addr
		device string
		want   string
	}{
		"no result (40)": {want: `{"name":"shop/a","default":false}`},
		"an empty result (40)": {
			result: `{"cniVersion":"1.0.0"}`,
			want:   `{"name":"shop/a","default":false}`,
		},
		"an empty result, but a device (51)": {
			result: `{"cniVersion":"1.0.0"}`, device: `{"type":"vhost-user","vhost-user":{"mode":"server","path":"/s"},"own.key":[1,"<&>"]}`,
			want: `{"name":"shop/a","default":false,"device-info":{"type":"vhost-user","vhost-user":{"mode":"server","path":"/s"},"own.key":[1,"<&>"]}}`,
		},
		"the first interface in the pod, not the host's (39, 45, 46, 47)": {
			result: `{"cniVersion":"1.1.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:09"},
				{"name":"net1","mac":"02:00:00:00:00:01","mtu":9000,"sandbox":"/n"},{"name":"net1.5","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/n"}],
				"ips":[{"address":"10.9.0.1/16","interface":0},{"address":"10.1.0.5/16","interface":1},{"address":"10.5.0.5/16","interface":2},
				{"address":"fd00::5/64","interface":1},{"address":"10.7.0.7/16"}]}`,
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5","fd00::5"],"mac":"02:00:00:00:00:01","mtu":9000,"default":false,"dns":{}}`,
		},
		"addresses without an index (46)": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":"net1","sandbox":"/n"}],"ips":[{"address":"10.9.0.1/16","interface":0},{"address":"10.1.0.5/16"}]}`,
			want:   `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"default":false,"dns":{}}`,
		},
		"no interface in the pod (46, 47)": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:09"}],"ips":[{"address":"10.9.0.1/16","interface":0},{"address":"10.1.0.5/16"}]}`,
			want:   `{"name":"shop/a","ips":["10.1.0.5"],"default":false,"dns":{}}`,
		},
		"before 0.3.0 (41)": {
			result: `{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64"},"dns":{"nameservers":["10.1.0.1"]}}`,
			want:   `{"name":"shop/a","interface":"net1","ips":["10.1.0.5","fd00::5"],"default":false,"dns":{"nameservers":["10.1.0.1"]},"gateway":["10.1.0.1"]}`,
		},
		"names alone": {
			result: `{"cniVersion":"1.0.0","dns":{"nameservers":["10.1.0.1","fd00::1"],"domain":"d","search":["a.d","b.d"],"options":["ndots:2"]}}`,
			want:   `{"name":"shop/a","default":false,"dns":{"nameservers":["10.1.0.1","fd00::1"],"domain":"d","search":["a.d","b.d"]}}`,
		},
		"default routes": {
			result: `{"cniVersion":"1.0.0",` + net1 + `,` + gw + `}`,
			want:   `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","default":false,"dns":{},"gateway":["10.1.0.1","fd00::1"]}`,
		},
		"default routes in other tables, halves, twice, without a gateway": {
			result: `{"cniVersion":"1.1.0",` + net1 + `,"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.9","table":100},{"dst":"0.0.0.0/1","gw":"10.1.0.8"},{"dst":"128.0.0.0/1","gw":"10.1.0.8"},
				{"dst":"0.0.0.0/0","gw":"10.1.0.1","table":254},{"dst":"0.0.0.0/0","gw":"10.1.0.1","priority":7},{"dst":"::/0"}]}`,
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","default":false,"dns":{},"gateway":["10.1.0.1"]}`,
		},
		"the gateway of ips, which a route means": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"}],"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}]}`,
			want:   `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"default":false,"dns":{},"gateway":["10.1.0.1"]}`,
		},
		"a gateway of ips, but no route": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"}],"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":0}]}`,
			want:   `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"default":false,"dns":{}}`,
		},
		"the other interface's gateway": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"},{"name":"up","sandbox":"/n"}],
				"ips":[{"address":"10.1.0.5/16","interface":0},{"address":"10.2.0.5/16","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"10.2.0.1"},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]}`,
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"default":false,"dns":{},"gateway":["169.254.1.1"]}`,
		},
		"default-route names gateways (50)": {
			result: `{"cniVersion":"1.0.0",` + net1 + `,"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.7"}]}`, asked: asked("10.1.0.7", "fd00::7"),
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","default":false,"dns":{},"gateway":["10.1.0.7"],"default-route":["10.1.0.7","fd00::7"]}`,
		},
		"default-route is empty (50)": {
			result: `{"cniVersion":"1.0.0",` + net1 + `,` + gw + `}`, asked: asked(),
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","default":false,"dns":{},"gateway":["10.1.0.1","fd00::1"],"default-route":["10.1.0.1","fd00::1"]}`,
		},
		"default-route is empty, and the network has none": {
			result: `{"cniVersion":"1.0.0",` + net1 + `}`, asked: asked(),
			want: `{"name":"shop/a","interface":"net1","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","default":false,"dns":{}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := Attached{Attachment: &Attachment{Reference: "shop/a", IfName: "net1", DefaultRoute: c.asked}, Device: json.RawMessage(c.device)}
			if c.result != "" {
				a.Result = newest(t, c.result)
			}
			got, err := EncodeStatus(StatusOf([]Attached{a}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("["+c.want+"]", got); diff != "" {
				t.Errorf("want(-) got(+):\n%s", diff)
			}
			asClientsDo(t, got)
		})
	}
}

// Two attachments of one network are two entries (36); one is the default
// (42, 48), also where the plugin before us attached it.
func TestStatusOfAPod(t *testing.T) {
	net := func(reference, ifname string, cluster bool) Attached {
		return Attached{
			Attachment: &Attachment{List: List{Name: "conf"}, Reference: reference, IfName: ifname, Cluster: cluster},
			Result:     newest(t, `{"cniVersion":"1.0.0","interfaces":[{"name":"`+ifname+`","sandbox":"/n"}]}`),
		}
	}
	got, err := EncodeStatus(StatusOf([]Attached{net("", "eth0", true), net("shop/a", "net1", false), {}, net("shop/a", "net2", false), net("shop/b", "net3", true)}))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"conf","interface":"eth0","default":true,"dns":{}},` +
		`{"name":"shop/a","interface":"net1","default":false,"dns":{}},` +
		`{"name":"shop/a","interface":"net2","default":false,"dns":{}},` +
		`{"name":"shop/b","interface":"net3","default":false,"dns":{}}]`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
	for _, none := range [][]NetworkStatus{nil, StatusOf(nil)} {
		if got, err = EncodeStatus(none); got != "[]" || err != nil {
			t.Errorf("of nothing: %q, %v", got, err)
		}
	}
}

func TestStatusRefusesDevice(t *testing.T) {
	_, err := EncodeStatus(StatusOf([]Attached{{Attachment: &Attachment{Reference: "shop/a"}, Device: json.RawMessage(`{"pci":`)}}))
	if err == nil || !strings.Contains(err.Error(), "shop/a") {
		t.Errorf("error %v", err)
	}
	classified(t, err)
}

func TestCheckDeviceInfo(t *testing.T) {
	for raw, want := range map[string]string{
		`{}`: "",
		` {"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:02.2","numa":1},"more":[1]} `: "",
		`{"pci":null}`:            "",
		``:                        "empty or null",
		`null`:                    "empty or null",
		`[1]`:                     "JSON array, want an object",
		`"x"`:                     "JSON string, want an object",
		`{"type":1}`:              `"type" is a JSON number, want a string`,
		`{"pci":5}`:               `"pci" is a JSON number, want`,
		`{"vdpa":{"path":["x"]}}`: `"vdpa.path" is a JSON array, want a string`,
		`{"pci":{}} {}`:           "not valid JSON",
		"{\"type\":\"\xff\"}":     "UTF-8",
		`{"x":` + strings.Repeat("[", 1000) + `}`:            "more than 1000 objects and lists",
		`{"x":"` + strings.Repeat("x", MaxDeviceInfo) + `"}`: "more than 65536 bytes",
	} {
		err := CheckDeviceInfo("the file", []byte(raw))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", clip(raw), err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "the file: ")):
			t.Errorf("%s: error %v, want %q", clip(raw), err, want)
		case want != "":
			classified(t, err)
		}
	}
}

// asClientsDo decodes the annotation into the client library's type, and
// compares what both know.
func asClientsDo(t *testing.T, annotation string) {
	t.Helper()
	var theirs []nettypes.NetworkStatus
	if err := json.Unmarshal([]byte(annotation), &theirs); err != nil {
		t.Fatalf("clients cannot decode %s: %v", annotation, err)
	}
	var ours []NetworkStatus
	if err := json.Unmarshal([]byte(annotation), &ours); err != nil {
		t.Fatal(err)
	}
	if len(ours) != len(theirs) {
		t.Fatalf("clients see %d networks of %d", len(theirs), len(ours))
	}
	for i, o := range ours {
		want := nettypes.NetworkStatus{Name: o.Name, Interface: o.Interface, IPs: o.IPs, Mac: o.MAC, Mtu: o.MTU, Default: o.Default, Gateway: o.Gateway}
		if o.DNS != nil {
			want.DNS = nettypes.DNS{Nameservers: o.DNS.Nameservers, Domain: o.DNS.Domain, Search: o.DNS.Search}
		}
		if o.DeviceInfo != nil {
			if err := json.Unmarshal(o.DeviceInfo, &want.DeviceInfo); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, theirs[i]); diff != "" {
			t.Errorf("ours(-) clients'(+):\n%s", diff)
		}
	}
}

// Whatever a stored result holds: an entry for each attachment, at most one
// of them the default, and clients can decode the whole.
func FuzzStatusOf(f *testing.F) {
	f.Add(`{"interfaces":[null,{"name":"net1","sandbox":"/n","mtu":-1}],"ips":[null,{"address":"10.0.0.1/8","interface":9},{"address":"10.0.0.1/8","interface":-1}],"routes":[null,{"dst":"::/0"}]}`, `{"type":"pci"}`, "10.0.0.1")
	f.Add(`{"ips":[{"address":"10.0.0.1/8","gateway":"10.0.0.2"}],"routes":[{"dst":"0.0.0.0/0"}]}`, `{"type":7}`, "")
	f.Fuzz(func(t *testing.T, result, device, gateway string) {
		a := Attached{Attachment: &Attachment{Reference: "shop/a", IfName: "net1", Cluster: true}, Device: json.RawMessage(device)}
		gw, err := netip.ParseAddr(gateway) // the zero address where it is none
		a.Attachment.DefaultRoute = &[]netip.Addr{gw}
		if err != nil && gateway != "" {
			a.Attachment.DefaultRoute = &[]netip.Addr{}
		}
		if err = json.Unmarshal([]byte(result), &a.Result); err != nil {
			return
		}
		list := StatusOf([]Attached{a, {}, a})
		if len(list) != 2 || !list[0].Default || list[1].Default {
			t.Fatalf("%+v", list)
		}
		if list[0].MAC != "" && list[0].Interface == "" {
			t.Errorf("a mac without an interface: %+v", list[0])
		}
		out, err := EncodeStatus(list)
		if err != nil {
			classified(t, err)
			return
		}
		asClientsDo(t, out)
	})
}
