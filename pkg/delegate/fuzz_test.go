package delegate

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// A plugin gets every value that its author wrote, and none that only a
// runtime may send.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, plugin, prev []byte) {
		list, err := network.ParseList("file", "net", plugin)
		if err != nil || list.Validate("file") != nil {
			return
		}
		if !json.Valid(prev) {
			prev = nil
		}
		a := &network.Attachment{List: *list, IfName: "net1"}
		for i, conf := range stub(a).Plugins {
			out, rerr := request(a, conf.Bytes, prev)
			if rerr != nil {
				t.Fatalf("plugins[%d]: %v", i, rerr)
			}
			compare(t, list.Plugins[i], out, len(prev) > 0)
		}
	})
}

func compare(t *testing.T, wrote, got []byte, prev bool) {
	t.Helper()
	var in, out map[string]json.RawMessage
	if json.Unmarshal(wrote, &in) != nil || json.Unmarshal(got, &out) != nil {
		t.Fatalf("not objects: %s, %s", wrote, got)
	}
	for key, value := range in {
		forbidden := key == "capabilities" || key == "runtimeConfig" || strings.HasPrefix(key, "cni.dev/") || key == "prevResult"
		have, ok := out[key]
		switch {
		case forbidden && ok && (key != "prevResult" || !prev):
			t.Errorf("%q was passed on", key)
		case !forbidden && !bytes.Equal(compacted(t, value), compacted(t, have)):
			t.Errorf("%q: wrote %s, got %s", key, value, have)
		}
	}
	if _, ok := out[indexKey]; ok && in[indexKey] == nil {
		t.Error("the plugin sees its place")
	}
}

func compacted(t *testing.T, raw []byte) []byte {
	t.Helper()
	var compact, escaped bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	return escaped.Bytes()
}
