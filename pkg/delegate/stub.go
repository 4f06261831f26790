package delegate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// indexKey stands in a stand-in for a plugin's place in its list. No plugin
// ever sees it.
const indexKey = "multiplexer/index"

// stub is the attachment's list as libcni gets it: of each plugin the type,
// the capabilities, and its place.
func stub(a *network.Attachment) *libcni.NetworkConfigList {
	list := &libcni.NetworkConfigList{
		Name: a.Name, CNIVersion: a.CNIVersion, DisableCheck: a.DisableCheck, DisableGC: a.DisableGC, Bytes: []byte("{}"),
	}
	for i, p := range a.Parsed() {
		conf := &types.PluginConf{Name: a.Name, CNIVersion: a.CNIVersion, Type: p.Type, Capabilities: p.Capabilities}
		list.Plugins = append(list.Plugins, &libcni.PluginConfig{
			Network: conf,
			Bytes:   fmt.Appendf(nil, `{"type":%q,"capabilities":%s,%q:"%d"}`, p.Type, capabilities(p), indexKey, i),
		})
	}
	return list
}

func capabilities(p network.Plugin) []byte {
	raw, err := json.Marshal(p.Capabilities)
	if err != nil {
		return []byte("null")
	}
	return raw
}

// request returns the configuration that one plugin gets: its own bytes,
// without what a runtime must not pass on, under the keys that libcni added
// to its stand-in (CNI 1.1 section 3, "Deriving request configuration").
// prev, when given, is the ADD's result for DEL and CHECK.
func request(a *network.Attachment, standIn []byte, prev json.RawMessage) ([]byte, error) {
	var added map[string]json.RawMessage
	if err := json.Unmarshal(standIn, &added); err != nil {
		return nil, fmt.Errorf("decode libcni's configuration: %w", err)
	}
	i, err := strconv.Atoi(strings.Trim(string(added[indexKey]), `"`))
	if err != nil || i < 0 || i >= len(a.Plugins) {
		return nil, fmt.Errorf("libcni's configuration: plugin %s of %d", added[indexKey], len(a.Plugins))
	}
	out := map[string]json.RawMessage{}
	if err = json.Unmarshal(a.Plugins[i], &out); err != nil {
		return nil, fmt.Errorf("decode plugins[%d]: %w", i, err)
	}
	maps.DeleteFunc(out, func(key string, _ json.RawMessage) bool {
		return key == "capabilities" || key == "runtimeConfig" || key == "prevResult" || strings.HasPrefix(key, "cni.dev/")
	})
	delete(added, indexKey)
	delete(added, "capabilities")
	delete(added, "type")
	maps.Copy(out, added)
	if len(prev) > 0 {
		out["prevResult"] = prev
	}
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	err = enc.Encode(out)
	return raw.Bytes(), err
}

// runtimeConf is the rest of what libcni wants.
func (x *execution) runtimeConf() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: x.request.ContainerID, NetNS: x.request.Netns, IfName: x.attachment.IfName, Args: x.attachment.Args,
	}
	if len(x.attachment.CapabilityArgs) > 0 {
		rt.CapabilityArgs = map[string]any{}
		for name, value := range x.attachment.CapabilityArgs {
			rt.CapabilityArgs[name] = value
		}
	}
	return rt
}
