package network

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func deviceSelection(t *testing.T, keys string) (Selection, error) {
	t.Helper()
	list, err := ParseSelections("k", `[{"name":"a"`+keys+`}]`)
	if err != nil {
		return Selection{}, err
	}
	return list[0], nil
}

func TestReadDevice(t *testing.T) {
	for keys, want := range map[string]*DeviceChoice{
		``: nil,
		`,"io.github.multiplexer-cni/device":{"container":"app"}`:                                {Container: "app"},
		`,"io.github.multiplexer-cni/device":{"id":"0000:3b:02.1"}`:                              {ID: "0000:3b:02.1"},
		`,"io.github.multiplexer-cni/device":{"id":"mlx5_core.sf.4","container":"b"}`:            {Container: "b", ID: "mlx5_core.sf.4"},
		`,"own.example/device":{"container":7}`:                                                  nil,
		`,"IO.github.multiplexer-cni/device":7,"io.github.multiplexer-cni/devices":[]`:           nil,
		`,"io.github.multiplexer-cni/device":7,"io.github.multiplexer-cni/device":{"id":"last"}`: {ID: "last"},
	} {
		s, err := deviceSelection(t, keys)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if diff := cmp.Diff(want, s.Device); diff != "" {
			t.Errorf("%s:\n%s", keys, diff)
		}
	}
}

func TestReadDeviceRefuses(t *testing.T) {
	for value, part := range map[string]string{
		`null`:                        "want an object",
		`{}`:                          "want an object",
		`[]`:                          "want an object",
		`[{"id":"a"}]`:                "want an object",
		`"0000:3b:02.1"`:              "want an object",
		`{"id":""}`:                   `"id" is no text or empty`,
		`{"container":""}`:            `"container" is no text or empty`,
		`{"container":"app","id":""}`: `"id" is no text or empty`,
		`{"id":7}`:                    `"id" is no text or empty`,
		`{"id":null}`:                 `"id" is no text or empty`,
		`{"container":["app"]}`:       `"container" is no text or empty`,
		`{"container":"a/b"}`:         `container "a/b"`,
		`{"ID":"a"}`:                  `key "ID" is not known`,
		`{"id":"a","resource":"r"}`:   `key "resource" is not known`,
		`{"id":"` + strings.Repeat("a", maxDeviceID+1) + `"}`: "at most 253",
	} {
		_, err := deviceSelection(t, `,"`+DeviceKey+`":`+value)
		if !errors.Is(err, Invalid) || !strings.Contains(err.Error(), DeviceKey) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want Invalid, %q and %q", value, err, DeviceKey, part)
		}
	}
}

// The list of the standard's own keys does not name ours.
func TestUnknownKeyNamesTheStandards(t *testing.T) {
	if _, err := deviceSelection(t, `,"device":{"id":"a"}`); !errors.Is(err, Invalid) || strings.Contains(err.Error(), DeviceKey) {
		t.Errorf("%v", err)
	}
}

func TestChosenDevice(t *testing.T) {
	const own = `,"io.github.multiplexer-cni/device":`
	for keys, want := range map[string]DeviceChoice{
		``:                                            {},
		`,"cni-args":{"vlan":7}`:                      {},
		own + `{"container":"app"}`:                   {Container: "app"},
		own + `{"id":"a"}`:                            {ID: "a"},
		`,"cni-args":{"deviceID":"a"}`:                {ID: "a"},
		`,"cni-args":{"pciBusID":"a"}`:                {ID: "a"},
		`,"cni-args":{"deviceid":"a"}`:                {ID: "a"}, // as Go's decoder would take it
		`,"cni-args":{"pciBu` + "ſ" + `ID":"a"}`:      {ID: "a"}, // so it would take this
		`,"cni-args":{"deviceID":"a","pciBusID":"a"}`: {ID: "a"},
		own + `{"id":"a"},"cni-args":{"deviceID":"a","pciBusID":"a"}`:      {ID: "a"},
		own + `{"container":"app"},"cni-args":{"deviceID":"a","other":[]}`: {Container: "app", ID: "a"},
	} {
		s, err := deviceSelection(t, keys)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		choice, chosen, err := s.ChosenDevice()
		if err != nil || chosen != (want != DeviceChoice{}) || choice != want {
			t.Errorf("%s: %+v, %v, %v", keys, choice, chosen, err)
		}
	}
}

func TestChosenDeviceRefuses(t *testing.T) {
	for keys, part := range map[string]string{
		`,"cni-args":{"deviceID":7}`:                                                 `"deviceID" names a device`,
		`,"cni-args":{"deviceID":null}`:                                              `"deviceID" names a device`,
		`,"cni-args":{"deviceID":""}`:                                                `"deviceID" names a device`,
		`,"cni-args":{"pciBusID":["a"]}`:                                             `"pciBusID" names a device`,
		`,"cni-args":{"deviceID":"a","pciBusID":"b"}`:                                `"a" by "deviceID", "b" by "pciBusID"`,
		`,"cni-args":{"deviceID":"a","deviceid":"b"}`:                                `"a" by "deviceID", "b" by "deviceid"`,
		`,"cni-args":{"deviceID":"` + strings.Repeat("a", maxDeviceID+1) + `"}`:      "at most 253",
		`,"io.github.multiplexer-cni/device":{"id":"a"},"cni-args":{"pciBusID":"b"}`: `"a" by "` + DeviceKey + `", "b" by "pciBusID"`,
	} {
		s, err := deviceSelection(t, keys)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		choice, chosen, err := s.ChosenDevice()
		if !errors.Is(err, Invalid) || !strings.Contains(err.Error(), part) || chosen || choice != (DeviceChoice{}) {
			t.Errorf("%s: %+v, %v, %v, want Invalid and %q", keys, choice, chosen, err, part)
		}
	}
}

func TestListSetDevice(t *testing.T) {
	for plugin, want := range map[string]string{
		`{"type":"sriov"}`: `{"deviceID":"d","pciBusID":"d","type":"sriov"}`,
		`{"type":"sriov","deviceID":"old","pciBusID":["x"],"vlan":7}`: `{"deviceID":"d","pciBusID":"d","type":"sriov","vlan":7}`,
		// A plugin in Go would read these after ours.
		`{"type":"sriov","deviceid":"old","PCIBUSID":"old"}`: `{"deviceID":"d","pciBusID":"d","type":"sriov"}`,
		// Values stay as they were written.
		`{"type":"x","n":12345678901234567890,"f":1.0,"args":{"cni":{"deviceID":"z"}}}`: `{"args":{"cni":{"deviceID":"z"}},"deviceID":"d","f":1.0,"n":12345678901234567890,"pciBusID":"d","type":"x"}`,
	} {
		l := &List{Plugins: []json.RawMessage{json.RawMessage(`{"type":"first"}`), json.RawMessage(plugin)}}
		if err := l.SetDevice("file", "d"); err != nil {
			t.Errorf("%s: %v", plugin, err)
			continue
		}
		if first := string(l.Plugins[0]); first != `{"deviceID":"d","pciBusID":"d","type":"first"}` {
			t.Errorf("the first plugin: %s", first)
		}
		if have := string(l.Plugins[1]); have != want {
			t.Errorf("%s:\nhave %s\nwant %s", plugin, have, want)
		}
	}
}

func TestListSetDeviceRefuses(t *testing.T) {
	l := &List{Plugins: []json.RawMessage{json.RawMessage(`{"type":"first"}`), json.RawMessage(`7`)}}
	before := string(encode(l))
	err := l.SetDevice("the file", "d")
	if !errors.Is(err, Invalid) || !strings.Contains(err.Error(), "the file: plugins[1]") {
		t.Errorf("%v", err)
	}
	if after := string(encode(l)); after != before {
		t.Errorf("changed by an error: %s", after)
	}
}

// One definition serves two attachments, which share its plugins and their
// capability arguments at first.
func TestAttachmentSetDeviceSharesNothing(t *testing.T) {
	definition := List{Name: "n", Plugins: []json.RawMessage{json.RawMessage(`{"type":"sriov","deviceID":"own"}`)}}
	caps := map[string]json.RawMessage{"mac": json.RawMessage(`"02:00:00:00:00:01"`)}
	before := string(encode(definition)) + string(encode(caps))
	one := Attachment{List: definition, CapabilityArgs: caps}
	two := Attachment{List: definition, CapabilityArgs: caps}
	three := Attachment{List: definition}
	for id, a := range map[string]*Attachment{"d1": &one, "d2": &two, "d3": &three} {
		if err := a.SetDevice("intel.com/sriov", id); err != nil {
			t.Fatal(err)
		}
	}
	for id, a := range map[string]*Attachment{"d1": &one, "d2": &two, "d3": &three} {
		if have, want := string(a.Plugins[0]), `{"deviceID":"`+id+`","pciBusID":"`+id+`","type":"sriov"}`; have != want {
			t.Errorf("%s: %s", id, have)
		}
		if have := string(a.CapabilityArgs["deviceID"]); have != `"`+id+`"` {
			t.Errorf("%s: capability argument %s", id, have)
		}
		if a.Resource != "intel.com/sriov" || a.DeviceID != id {
			t.Errorf("%s: %q %q", id, a.Resource, a.DeviceID)
		}
	}
	if string(one.CapabilityArgs["mac"]) != `"02:00:00:00:00:01"` {
		t.Error("another capability argument is lost")
	}
	if after := string(encode(definition)) + string(encode(caps)); after != before {
		t.Errorf("what is shared was changed: %s", after)
	}
}

func TestAttachmentSetDeviceRefuses(t *testing.T) {
	a := Attachment{Source: "the file", List: List{Plugins: []json.RawMessage{json.RawMessage(`[]`)}}}
	if err := a.SetDevice("r", "d"); !errors.Is(err, Invalid) || !strings.Contains(err.Error(), "the file") {
		t.Errorf("%v", err)
	}
	if a.DeviceID != "" || a.Resource != "" || a.CapabilityArgs != nil {
		t.Errorf("changed by an error: %+v", a)
	}
}
