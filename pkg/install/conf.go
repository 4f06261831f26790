package install

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// The names of our two files.
const (
	ConfName   = "00-multiplexer.conflist"
	PluginName = "multiplexer"
)

// Settings are what a conf says besides the cluster network.
type Settings struct {
	ConfDir string // the runtime's directory
	Runtime string // network.Containerd, network.CRIO or ""
	// Options are the operator's keys of the plugin's configuration, a JSON
	// object: routing, clusterCIDRs, namespaceIsolation and so on.
	Options json.RawMessage
}

// conflist is our file. Its plugin's entry has sorted keys, so the same
// input gives the same bytes.
type conflist struct {
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"`
	Name        string   `json:"name"`
	// InlineOnly: a folder of the cluster network's name belongs to the cluster
	// network, which we call with it, and not to our list of the same name.
	InlineOnly bool                         `json:"loadOnlyInlinedPlugins"`
	Plugins    []map[string]json.RawMessage `json:"plugins"`
}

// Conflist makes our conf for a cluster network. It has that network's name
// (docs/adr/0005), asks the runtime for all that its plugins take, and refers
// to its file.
func Conflist(cluster Cluster, s Settings) ([]byte, error) {
	if _, _, err := s.parse(); err != nil {
		return nil, err
	}
	entry, err := s.keys()
	if err != nil {
		return nil, err
	}
	capabilities := map[string]bool{}
	for _, p := range cluster.List.Parsed() {
		for name, on := range p.Capabilities {
			capabilities[name] = capabilities[name] || on
		}
	}
	maps.DeleteFunc(capabilities, func(_ string, on bool) bool { return !on })
	if raw, ok := entry["capabilities"]; ok {
		if err = json.Unmarshal(raw, &capabilities); err != nil {
			return nil, network.Malformed.Errorf("options: capabilities: %w", err)
		}
	}
	if capabilities == nil { // "capabilities": null
		capabilities = map[string]bool{}
	}
	capabilities[network.PodAnnotations] = true

	values := map[string]any{"type": PluginName, "capabilities": capabilities, "clusterConfDir": s.ConfDir}
	if cluster.Path != "" {
		values["clusterNetwork"] = cluster.Path
	}
	if _, given := entry["runtime"]; !given && s.Runtime != "" {
		values["runtime"] = s.Runtime
	}
	for key, value := range values {
		if entry[key], err = json.Marshal(value); err != nil {
			return nil, network.Invalid.Errorf("write %q: %w", key, err)
		}
	}
	return encode(conflist{
		CNIVersion: "1.0.0", CNIVersions: []string{"1.0.0", "1.1.0"}, Name: cluster.List.Name, InlineOnly: true,
		Plugins: []map[string]json.RawMessage{entry},
	})
}

// encode writes JSON as a person would, without HTML's escapes.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil {
		return nil, network.Invalid.Errorf("write JSON: %w", err)
	}
	return out.Bytes(), nil
}

// written are the keys that install alone decides.
func written() []string {
	return []string{"name", "type", "cniVersion", "cniVersions", "clusterConfDir", "runtimeConfig", "prevResult"}
}

// keys returns the options, each value as it was written.
func (s Settings) keys() (map[string]json.RawMessage, error) {
	keys := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(s.Options)) > 0 {
		if err := json.Unmarshal(s.Options, &keys); err != nil {
			return nil, network.Malformed.Errorf("options: want a JSON object of the plugin's configuration keys: %w", err)
		}
	}
	if keys == nil { // null
		keys = map[string]json.RawMessage{}
	}
	return keys, nil
}

// Config is the plugin's configuration as far as the options decide it.
func (s Settings) Config() (*network.Config, error) {
	config, _, err := s.parse()
	return config, err
}

// parse reads the options as the plugin will. The warnings name keys that
// have no effect.
func (s Settings) parse() (*network.Config, []string, error) {
	keys, err := s.keys()
	if err != nil {
		return nil, nil, err
	}
	for _, key := range written() {
		if _, there := keys[key]; there {
			return nil, nil, network.Invalid.Errorf("options: %q is written by install: leave it out", key)
		}
	}
	whole := maps.Clone(keys)
	maps.Copy(whole, map[string]json.RawMessage{"cniVersion": json.RawMessage(`"1.0.0"`), "name": json.RawMessage(`"options"`), "type": json.RawMessage(`"multiplexer"`)})
	raw, err := json.Marshal(whole)
	if err != nil {
		return nil, nil, network.Malformed.Errorf("options: %w", err)
	}
	config, err := network.ParseConfig(raw)
	if err != nil {
		return nil, nil, err
	}
	if config.ClusterNetwork != "" && len(config.Delegates) > 0 {
		return nil, nil, network.Invalid.Errorf("options: clusterNetwork %q and delegates[0] both name the cluster network: keep one of them", config.ClusterNetwork)
	}
	return config, network.Warnings(raw), nil
}

// differing names the keys by which two confs differ.
func differing(ours, theirs []byte) []string {
	if !json.Valid(theirs) {
		return []string{"it is no JSON any more"}
	}
	a, b := entryOf(ours), entryOf(theirs)
	all := maps.Clone(a)
	maps.Copy(all, b)
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(compact(a[key]), compact(b[key])) {
			keys = append(keys, key)
		}
	}
	return keys
}

// entryOf returns the keys of a conf's plugin, and of the list around it.
func entryOf(conf []byte) map[string]json.RawMessage {
	list := map[string]json.RawMessage{}
	var plugins []map[string]json.RawMessage
	if json.Unmarshal(conf, &list) != nil || list == nil {
		return map[string]json.RawMessage{"all": conf}
	}
	if json.Unmarshal(list["plugins"], &plugins) == nil && len(plugins) == 1 {
		delete(list, "plugins")
		maps.Copy(list, plugins[0])
	}
	return list
}

func compact(raw []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return raw
	}
	return out.Bytes()
}
