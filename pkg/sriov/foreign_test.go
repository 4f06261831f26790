package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// foreignFile is a record as sriov-cni 2.10 writes it, with another state.
func foreignFile(state string) string {
	return `{"cniVersion":"0.3.1","name":"fast","type":"sriov","ipam":{"type":"host-local"},"dns":{},
		"OrigVfState":{` + state + `},"Master":"ens1","MAC":"ca:fe:c0:ff:ee:00","MTU":null,"vlan":100,"vlanQoS":3,"vlanProto":"802.1q",
		"deviceID":"0000:AF:10.1","VFID":1,"min_tx_rate":null,"max_tx_rate":null,"spoofchk":"off","runtimeConfig":{}}`
}

func TestRecordOfSriovCNI(t *testing.T) {
	fresh := Admin{MAC: zeroMAC, Proto: proto8021Q, SpoofChk: off, Trust: off, LinkState: linkAuto}
	state := func(change func(*Admin, *Original)) Original {
		admin := fresh
		o := Original{Admin: &admin}
		change(&admin, &o)
		return o
	}
	for name, c := range map[string]struct {
		state string
		want  Original
	}{
		"nothing": {``, state(func(*Admin, *Original) {})},
		"all": {
			`"HostIFName":"ens1v1","SpoofChk":true,"Trust":true,"AdminMAC":"02:00:00:00:AA:01","EffectiveMAC":"02:00:00:00:BB:01","Vlan":5,"VlanQoS":6,"VlanProto":33024,"MinTxRate":10,"MaxTxRate":20,"LinkState":2,"MTU":1500`,
			state(func(a *Admin, o *Original) {
				*a = Admin{MAC: "02:00:00:00:aa:01", VLAN: 5, QoS: 6, Proto: proto8021Q, SpoofChk: on, Trust: on, LinkState: linkDisable, MinTxRate: 10, MaxTxRate: 20}
				o.Netdev, o.MAC, o.MTU = "ens1v1", "02:00:00:00:bb:01", 1500
			}),
		},
		"no administrative address":        {`"AdminMAC":"","EffectiveMAC":"02:00:00:00:00:01"`, state(func(_ *Admin, o *Original) { o.MAC = "02:00:00:00:00:01" })},
		"an administrative address of 0":   {`"AdminMAC":"00:00:00:00:00:00"`, state(func(*Admin, *Original) {})},
		"802.1q as a number":               {`"VlanProto":33024`, state(func(*Admin, *Original) {})},
		"802.1q in the other order":        {`"VlanProto":129`, state(func(*Admin, *Original) {})},
		"802.1ad as a number":              {`"VlanProto":34984`, state(func(a *Admin, _ *Original) { a.Proto = proto8021AD })},
		"802.1ad in the other order":       {fmt.Sprintf(`"VlanProto":%d`, bigEndian(0x88a8)), state(func(a *Admin, _ *Original) { a.Proto = proto8021AD })},
		"no protocol, of an older version": {`"Vlan":5`, state(func(a *Admin, _ *Original) { a.VLAN = 5 })},
		"link_state auto":                  {`"LinkState":0`, state(func(*Admin, *Original) {})},
		"link_state enable":                {`"LinkState":1`, state(func(a *Admin, _ *Original) { a.LinkState = linkEnable })},
		"link_state disable":               {`"LinkState":2`, state(func(a *Admin, _ *Original) { a.LinkState = linkDisable })},
		"link_state of another number":     {`"LinkState":3`, state(func(*Admin, *Original) {})},
		"link_state that is not had":       {`"LinkState":4294967295`, state(func(*Admin, *Original) {})},
		"a VF of a process":                {`"HostIFName":"","MTU":0`, state(func(*Admin, *Original) {})},
	} {
		t.Run(name, func(t *testing.T) {
			var f foreignConf
			if err := json.Unmarshal([]byte(foreignFile(c.state)), &f); err != nil {
				t.Fatal(err)
			}
			got, err := f.record("c1", "net1")
			if err != nil {
				t.Fatal(err)
			}
			want := &Record{
				Container: "c1", IfName: "net1", PCI: "0000:af:10.1", Set: []Knob{KnobVLAN, KnobMAC, KnobSpoofChk}, Original: c.want,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// The same bytes are DEL's configuration.
			if _, err = decode([]byte(foreignFile(c.state))); err != nil {
				t.Errorf("as a configuration: %v", err)
			}
		})
	}
	_, err := (&foreignConf{DeviceID: "../x"}).record("c1", "net1")
	refused(t, err, `"../x"`, "record of sriov-cni")
}

// Only what sriov-cni changed is set back: a driver may not have the rest,
// and the record says yes or no all the same.
func TestWhatSriovCNIChanged(t *testing.T) {
	was := Admin{MAC: "02:00:00:00:00:01", VLAN: 1, QoS: 2, Proto: proto8021AD, SpoofChk: off, Trust: off, LinkState: linkEnable, MinTxRate: 3, MaxTxRate: 4}
	now := Admin{MAC: "02:00:00:00:00:02", VLAN: 5, QoS: 6, Proto: proto8021Q, LinkState: linkAuto, MinTxRate: 7, MaxTxRate: 8}
	for keys, want := range map[string]Admin{
		`"vlan":null,"spoofchk":""`: {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, LinkState: linkAuto, MinTxRate: 7, MaxTxRate: 8},
		`"vlan":0`:                  {MAC: was.MAC, VLAN: 1, QoS: 2, Proto: proto8021AD, LinkState: linkAuto, MinTxRate: 7, MaxTxRate: 8},
		`"spoofchk":"on"`:           {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, SpoofChk: off, LinkState: linkAuto, MinTxRate: 7, MaxTxRate: 8},
		`"trust":"on"`:              {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, Trust: off, LinkState: linkAuto, MinTxRate: 7, MaxTxRate: 8},
		`"min_tx_rate":0`:           {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, LinkState: linkAuto, MinTxRate: 3, MaxTxRate: 4},
		`"max_tx_rate":9`:           {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, LinkState: linkAuto, MinTxRate: 3, MaxTxRate: 4},
		`"link_state":"disable"`:    {MAC: was.MAC, VLAN: 5, QoS: 6, Proto: proto8021Q, LinkState: linkEnable, MinTxRate: 7, MaxTxRate: 8},
	} {
		var f foreignConf
		if err := json.Unmarshal([]byte("{"+keys+"}"), &f); err != nil {
			t.Fatal(err)
		}
		got := now
		for _, k := range f.changed() {
			got = got.with(k, was)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", keys, diff)
		}
	}
}

// A VF that another pod has by now stays that pod's, for sriov-cni too.
func TestLateDELOfSriovCNI(t *testing.T) {
	s := newStock(t)
	s.file("boot", stockBoot)
	s.file("foreign/c1-net1", strings.ReplaceAll(foreignFile(""), "0000:AF:10.1", aVF))
	p := &Plugin{
		Sys: Sysfs(filepath.Join(s.dir, "sys")), Kernel: s, BootIDPath: filepath.Join(s.dir, "boot"), Foreign: filepath.Join(s.dir, "foreign"),
		Stderr: io.Discard, Now: time.Now,
	}
	claims := NewClaims(filepath.Join(s.dir, "state"), p.Foreign)
	ours := &Record{Container: "c2", IfName: "net1", PCI: aVF, Ref: podns.Ref{Path: "/live/c2"}}
	s.claim(ours)
	s.must(claims.putForeign(ours))
	_, err := p.Run(context.Background(), network.Call{
		Command: "DEL", ContainerID: "c1", IfName: "net1", StateDir: filepath.Join(s.dir, "state"), Stdin: []byte(`{"name":"fast","type":"sriov"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := claims.foreignHolder(aVF); got != "/live/c2" {
		t.Errorf("sriov-cni takes the VF for %q's", got)
	}
	if r, getErr := claims.Get(aVF); r == nil || getErr != nil {
		t.Errorf("claim: %v, %v", r, getErr)
	}
	if exists(filepath.Join(p.Foreign, "c1-net1")) {
		t.Error("the record is still there, and DEL would be called again")
	}
}

// left returns the interfaces that sriov-cni left for a container.
func left(t *testing.T, p *Plugin, container string) []string {
	t.Helper()
	found, err := p.Left(container)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range found {
		names = append(names, a.IfName)
		want := network.Attachment{List: a.List, Reference: "fast", Source: filepath.Join(p.Foreign, container+"-"+a.IfName), IfName: a.IfName}
		if diff := cmp.Diff(want, a); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if a.Name != "fast" || a.CNIVersion != "0.3.1" || len(a.Plugins) != 1 {
			t.Errorf("list: %+v", a.List)
			continue
		}
		if diff := cmp.Diff(foreignFile(""), string(a.Plugins[0])); diff != "" {
			t.Errorf("not as sriov-cni kept it (-want +got):\n%s", diff)
		}
	}
	return names
}

func TestLeftBySriovCNI(t *testing.T) {
	dir := t.TempDir()
	p := &Plugin{Foreign: dir}
	for _, file := range []string{
		"abc-net1", "abc-net2", "abc-a-b", "abc-enp129s0f0np000", // 15 characters
		"abcd-net1", "xabc-net3", "ab-net4", "abc.def-net5", "ABC-net6",
		"abc", "abc-", "abc-enp129s0f0np0001", "abc-net1:0", "abc-..", // no interfaces
	} {
		write0600(t, filepath.Join(dir, file), foreignFile(""))
	}
	write0600(t, filepath.Join(dir, "abc-pci", "0000:01:10.0"), "/run/netns/a")
	write0600(t, filepath.Join(dir, "pci", "0000:01:10.0"), "/run/netns/a")
	write0600(t, filepath.Join(dir, "broken-net1"), "{")
	for container, want := range map[string][]string{
		"abc":     {"a-b", "enp129s0f0np000", "net1", "net2"},
		"abc-a":   {"b"}, // whose it is the name does not say
		"abcd":    {"net1"},
		"ab":      {"net4"},
		"abc.def": {"net5"},
		"a":       nil,
		"bc":      nil,
		"pci":     nil,
	} {
		t.Run(container, func(t *testing.T) {
			if got := left(t, p, container); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if _, err := p.Left("../abc"); !errors.Is(err, network.Environment) {
		t.Errorf("a path: %v", err)
	}
	if _, err := p.Left("broken"); !errors.Is(err, network.Malformed) || !strings.Contains(err.Error(), filepath.Join(dir, "broken-net1")) {
		t.Errorf("a damaged record: %v", err)
	}
}

func TestNothingLeftBySriovCNI(t *testing.T) {
	dir := t.TempDir()
	for name, foreign := range map[string]string{"switched off": "", "no directory": filepath.Join(dir, "none"), "an empty directory": dir} {
		if found, err := (&Plugin{Foreign: foreign}).Left("abc"); found != nil || err != nil {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	write0600(t, filepath.Join(dir, "file"), "")
	if _, err := (&Plugin{Foreign: filepath.Join(dir, "file")}).Left("abc"); !errors.Is(err, network.IO) {
		t.Errorf("a file: %v", err)
	}
}
