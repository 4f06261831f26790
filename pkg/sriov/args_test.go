package sriov

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// A pod's word stands above the definition's, and a runtime's above both.
func TestPrecedence(t *testing.T) {
	const mac, vlan, vf = `"mac":"02:00:00:00:00:01"`, `"vlan":1`, `"vf":1`
	for name, c := range map[string]struct{ stdin, args, want string }{
		"MAC: the key":                     {onPF(mac), "", "mac=02:00:00:00:00:01"},
		"MAC: CNI_ARGS":                    {onPF(mac), "MAC=02:00:00:00:00:02", "mac=02:00:00:00:00:02"},
		"MAC: CNI_ARGS alone":              {onPF(`"announce":true`), "MAC=02:00:00:00:00:02", "mac=02:00:00:00:00:02 announce=true"},
		"MAC: args.cni":                    {onPF(mac + `,"args":{"cni":{"mac":"02:00:00:00:00:03"}}`), "MAC=02:00:00:00:00:02", "mac=02:00:00:00:00:03"},
		"MAC: args.cni in capitals":        {onPF(mac + `,"args":{"cni":{"MAC":"02:00:00:00:00:03"}}`), "MAC=02:00:00:00:00:02", "mac=02:00:00:00:00:03"},
		"MAC: runtimeConfig":               {onPF(mac + `,"args":{"cni":{"mac":"02:00:00:00:00:03"}},"runtimeConfig":{"mac":"02:00:00:00:00:04"}`), "MAC=02:00:00:00:00:02", "mac=02:00:00:00:00:04"},
		"MAC: an empty runtimeConfig":      {onPF(mac + `,"runtimeConfig":{"mac":""}`), "", "mac=02:00:00:00:00:01"},
		"MAC: a wrong key that is not it":  {onPF(`"mac":"green","runtimeConfig":{"mac":"02:00:00:00:00:04"}`), "", "mac=02:00:00:00:00:04"},
		"VLAN: the key":                    {onPF(vlan), "", "vlan=1"},
		"VLAN: CNI_ARGS":                   {onPF(vlan), "VLAN=2", "vlan=2"},
		"VLAN: args.cni, a number":         {onPF(`"args":{"cni":{"VLAN":3}}`), "", "vlan=3"},
		"VLAN: args.cni, a text":           {onPF(`"args":{"cni":{"VLAN":"3"}}`), "", "vlan=3"},
		"VLAN: args.cni says the same":     {onPF(vlan + `,"args":{"cni":{"VLAN":"2"}}`), "VLAN=2", "vlan=2"},
		"VLAN 0 by CNI_ARGS":               {onPF(vlan), "VLAN=0", "vlan=0"},
		"VLAN 0 by args.cni":               {onPF(`"args":{"cni":{"VLAN":0}}`), "", "vlan=0"},
		"VLAN: the definition's priority":  {onPF(`"vlan":1,"vlanQoS":5`), "VLAN=2", "vlan=2 vlanQoS=5"},
		"VLAN: a priority waiting for one": {onPF(`"vlanQoS":5,"vlanProto":"802.1ad"`), "VLAN=2", "vlan=2 vlanQoS=5 vlanProto=802.1ad"},
		"VLAN: a wrong key that is not it": {onPF(`"vlan":4095`), "VLAN=2", "vlan=2"},
		"VF: the key":                      {onPF(vf), "", "vf=1"},
		"VF: CNI_ARGS":                     {onPF(vf), "VF=2", "vf=2"},
		"VF: args.cni, a number":           {onPF(vf + `,"args":{"cni":{"VF":3}}`), "VF=2", "vf=3"},
		"VF: args.cni, a text":             {onPF(vf + `,"args":{"cni":{"VF":"3"}}`), "VF=2", "vf=3"},
		"VF 0 by CNI_ARGS":                 {onPF(vf), "VF=0", "vf=0"},
		"VF 0 by args.cni":                 {onPF(vf + `,"args":{"cni":{"VF":0}}`), "", "vf=0"},
		"all of a pod":                     {onPF(`"args":{"cni":{"VF":0,"VLAN":"7","mac":"02:00:00:00:00:03","IP":"10.0.0.5"}}`), "", "vf=0 vlan=7 mac=02:00:00:00:00:03"},
		"all of a runtime":                 {onPF(`"announce":true`), "IgnoreUnknown=1;K8S_POD_NAME=a;VF=4;VLAN=5;MAC=02:00:00:00:00:02;IP=10.0.0.5", "vf=4 vlan=5 mac=02:00:00:00:00:02 announce=true"},
		"args without cni":                 {onPF(vlan + `,"args":{"labels":[{"key":"a"}]}`), "", "vlan=1"},
		"args null":                        {onPF(vlan + `,"args":null`), "", "vlan=1"},
		"others' arguments":                {onPF(vlan + `,"args":{"cni":{"vlan":3,"vf":4,"Vlan":5,"ips":["10.0.0.5"]}}`), "vlan=3;Vlan=4; VLAN=5;VLANX=6", "vlan=1"},
		"no arguments":                     {onPF(vlan), ";;=;a;=b", "vlan=1"},
		"the last one said":                {onPF(vlan), "VLAN=2;VLAN=3", "vlan=3"},
	} {
		t.Run(name, func(t *testing.T) { wantSettings(t, c.stdin, c.args, "master=ens1 "+c.want) })
	}
	wantSettings(t, onVF(`"runtimeConfig":{"deviceID":"0000:01:10.7"}`), "", "deviceID=0000:01:10.7")
	wantSettings(t, onVF(`"runtimeConfig":{"deviceID":""}`), "", "deviceID=0000:01:10.0")
}

func TestRefusedArguments(t *testing.T) {
	for name, c := range map[string]struct {
		stdin, args string
		says        []string
	}{
		"VLAN 4095":               {onVF(""), "VLAN=4095", []string{"vlan 4095", "0 (no tag) to 4094"}},
		"VLAN -1":                 {onVF(""), "VLAN=-1", []string{"vlan -1", "0 (no tag) to 4094"}},
		"VLAN is empty":           {onVF(""), "VLAN=", []string{`VLAN ""`, "CNI_ARGS", "a whole number"}},
		"VLAN without a value":    {onVF(""), "VLAN", []string{`VLAN ""`, "a whole number"}},
		"VLAN is a word":          {onVF(""), "VLAN=blue", []string{`VLAN "blue"`, "a whole number"}},
		"VLAN with a space":       {onVF(""), "VLAN= 5", []string{`VLAN " 5"`, "a whole number"}},
		"VLAN hexadecimal":        {onVF(""), "VLAN=0x10", []string{`VLAN "0x10"`, "a whole number"}},
		"VLAN beyond 64 bits":     {onVF(""), "VLAN=99999999999999999999", []string{`VLAN "99999999999999999999"`}},
		"VF -1":                   {onPF(""), "VF=-1", []string{"vf -1", "0 or more"}},
		"VF is a word":            {onPF(""), "VF=first", []string{`VF "first"`, "a whole number"}},
		"VF of a chosen VF":       {onVF(""), "VF=0", []string{"vf 0", `deviceID "0000:01:10.0"`}},
		"a group's address":       {onVF(""), "MAC=01:00:5e:00:00:01", []string{`mac "01:00:5e:00:00:01"`, "group"}},
		"an address that is none": {onVF(""), "MAC=a=b", []string{`mac "a=b"`, "six bytes"}},
		"a pod's other VLAN":      {onVF(`"vlan":1,"args":{"cni":{"VLAN":2}}`), "", []string{`VLAN "2"`, "cni-args", "vlan 1, which a pod cannot change"}},
		"a pod's VLAN off":        {onVF(`"vlan":1,"args":{"cni":{"VLAN":0}}`), "", []string{`VLAN "0"`, "vlan 1"}},
		"not the runtime's VLAN":  {onVF(`"args":{"cni":{"VLAN":3}}`), "VLAN=2", []string{`VLAN "3"`, "vlan 2"}},
		"a pod's VLAN 4095":       {onVF(`"args":{"cni":{"VLAN":4095}}`), "", []string{"vlan 4095", "0 (no tag) to 4094"}},
		"a pod's VLAN 1.5":        {onVF(`"args":{"cni":{"VLAN":1.5}}`), "", []string{`VLAN "1.5"`, "cni-args", "a whole number"}},
		"a pod's VLAN is true":    {onVF(`"args":{"cni":{"VLAN":true}}`), "", []string{`VLAN "true"`, "a whole number"}},
		"a pod's VLAN is a list":  {onVF(`"args":{"cni":{"VLAN":[5]}}`), "", []string{`VLAN "[5]"`, "a whole number"}},
		"a pod's VF is a word":    {onPF(`"args":{"cni":{"VF":"first"}}`), "", []string{`VF "first"`, "a whole number"}},
		"a pod's address":         {onVF(`"args":{"cni":{"mac":"green"}}`), "", []string{`mac "green"`, "six bytes"}},
		"a pod's address, 5":      {onVF(`"args":{"cni":{"mac":5}}`), "", []string{`mac "5"`, "six bytes"}},
		"a runtime's address":     {onVF(`"mac":"02:00:00:00:00:01","runtimeConfig":{"mac":"green"}`), "", []string{`mac "green"`, "six bytes"}},
		"VLAN 0 and a priority":   {onVF(`"vlan":5,"vlanQoS":3`), "VLAN=0", []string{"vlanQoS 3", "1 to 4094"}},
		"VLAN of the PF itself":   {onPF(`"pfOnly":true`), "VLAN=5", []string{"pfOnly", "vlan"}},
		"VF of the PF itself":     {onPF(`"pfOnly":true`), "VF=0", []string{"pfOnly", "vf"}},
		"MAC of the PF itself":    {onPF(`"pfOnly":true`), "MAC=02:00:00:00:00:01", []string{"pfOnly", "mac"}},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.stdin, c.args, network.Invalid, c.says...) })
	}
}

// What ADD would refuse is released all the same, addresses included, and
// nothing is said of it at STATUS but by STATUS itself.
func TestReleaseOfWhatAddRefuses(t *testing.T) {
	for name, c := range map[string]struct{ stdin, args string }{
		"values out of range":     {onVF(`"vlan":4095,"vlanQoS":9,"mac":"green","mtu":1,"trust":"maybe","vf":-1,"ipam":{"type":"ours"}`), ""},
		"keys that are refused":   {onVF(`"rdmaIsolation":true,"dpdk":{},"runtimeConfig":{"infinibandGUID":"1"},"ipam":{"type":"ours"}`), ""},
		"JSON of other types":     {`{"name":5,"deviceID":7,"vlan":"100","ipam":{"type":"ours"},"trust":true,"args":[],"runtimeConfig":""}`, ""},
		"no device":               {`{"name":"fast","type":"sriov","ipam":{"type":"ours"}}`, ""},
		"arguments that are none": {onVF(`"args":{"cni":{"VF":"x"}},"ipam":{"type":"ours"}`), "VLAN=blue"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t)
			s.file("boot", stockBoot)
			var log bytes.Buffer
			p := &Plugin{Sys: Sysfs(filepath.Join(s.dir, "sys")), Kernel: s, BootIDPath: filepath.Join(s.dir, "boot"), Stderr: &log, Now: time.Now}
			var asked []string
			run := func(command string) error {
				_, err := p.Run(context.Background(), network.Call{
					Command: command, ContainerID: "c1", IfName: "net1", Args: c.args, Stdin: []byte(c.stdin), StateDir: filepath.Join(s.dir, "state"),
					Exec: func(_ context.Context, kind string, call network.Call) ([]byte, error) {
						asked = append(asked, kind+" "+call.Command)
						return nil, nil
					},
				})
				return err
			}
			for _, command := range []string{"ADD", "CHECK"} {
				if err := run(command); !errors.Is(err, network.Invalid) {
					t.Errorf("%s: %v", command, err)
				}
			}
			for _, command := range []string{"DEL", "GC"} {
				if err := run(command); err != nil {
					t.Errorf("%s: %v", command, err)
				}
			}
			if len(asked) != 2 || asked[0] != "ours DEL" || asked[1] != "ours GC" {
				t.Errorf("IPAM was asked %q", asked)
			}
			if err := run("STATUS"); err != nil {
				t.Errorf("STATUS: %v", err)
			}
			if log.Len() > 0 {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}
