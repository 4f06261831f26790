package network

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/containernetworking/cni/pkg/version"
)

// MaxDefinition bounds one network definition, in bytes.
const MaxDefinition = 1 << 20

// List is one network's configuration. Each plugin's object is kept as it
// was written, so that no value is lost or rounded on its way to the plugin.
type List struct {
	Name         string            `json:"name"`
	CNIVersion   string            `json:"cniVersion"`
	DisableCheck bool              `json:"disableCheck,omitempty"`
	DisableGC    bool              `json:"disableGC,omitempty"`
	Plugins      []json.RawMessage `json:"plugins"`
	// InlineOnly: no plugins are to be added from the folder beside the file
	// (CNI 1.1 section 1, loadOnlyInlinedPlugins).
	InlineOnly bool `json:"-"`
	// MoreAsked: the list says in so many words that they are.
	MoreAsked bool `json:"-"`
}

// fileList is a conflist, or a conf when Type is set.
type fileList struct {
	Name         *string             `json:"name"`
	Type         string              `json:"type"`
	CNIVersion   *string             `json:"cniVersion"`
	CNIVersions  []string            `json:"cniVersions"`
	DisableCheck lenientBool         `json:"disableCheck"`
	DisableGC    lenientBool         `json:"disableGC"`
	InlineOnly   *lenientBool        `json:"loadOnlyInlinedPlugins"`
	Plugins      *[]*json.RawMessage `json:"plugins"`
}

// lenientBool reads true, false, "true" and "false", as libcni does.
type lenientBool bool

func (b *lenientBool) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		data = []byte(s)
	}
	return json.Unmarshal(data, (*bool)(b))
}

// ParseList reads a network's conf or conflist. `source` names the file or
// object, for messages; `name` is used when the configuration has none (NPWG
// 3.2). A list without plugins is returned as it is: the caller may find
// more beside the file, and then calls Validate.
func ParseList(source, name string, raw []byte) (*List, error) {
	if len(raw) > MaxDefinition {
		return nil, Invalid.Errorf("%s: %d bytes, at most %d are read", source, len(raw), MaxDefinition)
	}
	if isNull(raw) {
		return nil, Malformed.Errorf("%s: is empty or null, want a CNI configuration (a JSON object)", source)
	}
	var in fileList
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, decodeError(source, err)
	}
	list := &List{
		Name: deref(in.Name, ""), DisableCheck: bool(in.DisableCheck), DisableGC: bool(in.DisableGC),
		InlineOnly: in.InlineOnly != nil && bool(*in.InlineOnly), MoreAsked: in.InlineOnly != nil && !bool(*in.InlineOnly),
	}
	if list.Name == "" {
		list.Name = name
	}
	var err error
	if list.CNIVersion, err = chooseVersion(source, deref(in.CNIVersion, ""), in.CNIVersions); err != nil {
		return nil, err
	}
	switch {
	case in.Plugins != nil:
		for i, plugin := range *in.Plugins {
			if plugin == nil {
				return nil, Invalid.Errorf("%s: plugins[%d] is null, want a plugin's configuration", source, i)
			}
			list.Plugins = append(list.Plugins, *plugin)
		}
	case in.Type != "":
		list.Plugins, list.InlineOnly = []json.RawMessage{raw}, true
	}
	return list, nil
}

// chooseVersion returns the highest version of cniVersion and cniVersions
// that this build speaks (CNI 1.1 section 1); none at all means 0.1.0.
func chooseVersion(source, one string, more []string) (string, error) {
	best := ""
	for _, v := range append([]string{one}, more...) {
		if v == "" || !slices.Contains(version.All.SupportedVersions(), v) {
			continue
		}
		if higher, err := version.GreaterThan(v, or(best, "0.0.0")); err == nil && higher {
			best = v
		}
	}
	if best == "" && one == "" && len(more) == 0 {
		return "0.1.0", nil
	}
	if best == "" {
		return "", Unsupported.Errorf("%s: cniVersion %q, cniVersions %q: this version speaks %q", source, clip(one), more, version.All.SupportedVersions())
	}
	return best, nil
}

// Validate reports whether the list can be run: a name fit for paths, and
// plugins whose types are file names and no meta-plugin's.
func (l *List) Validate(source string) error {
	if err := ValidateNetworkName(source, l.Name); err != nil {
		return err
	}
	if len(l.Plugins) == 0 {
		return Invalid.Errorf("%s: has neither \"type\" nor \"plugins\"; a network needs at least one plugin", source)
	}
	for i, raw := range l.Plugins {
		p, err := parsePlugin(raw)
		if err != nil {
			return Invalid.Errorf("%s: plugins[%d]: %w", source, i, err)
		}
		if MetaPlugin(p.Type) {
			return Invalid.Errorf("%s: plugin type %q is a meta-plugin and cannot be a network: it would attach the pod a second time; name the network it delegates to instead", source, p.Type)
		}
	}
	return nil
}

// Plugin is what we need to know of one plugin's object.
type Plugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
}

func parsePlugin(raw json.RawMessage) (Plugin, error) {
	var p Plugin
	if isNull(raw) {
		return p, Malformed.Errorf("is null, want an object")
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, decodeError("plugin", err)
	}
	if !pluginType.MatchString(p.Type) {
		return p, Invalid.Errorf("type %q: want the name of an executable, without a path", clip(p.Type))
	}
	return p, nil
}

// Types returns the plugins' types, in order; "" where one has none.
func (l *List) Types() []string {
	var types []string
	for _, p := range l.Parsed() {
		types = append(types, p.Type)
	}
	return types
}

// Parsed returns what is known of each plugin, in order.
func (l *List) Parsed() []Plugin {
	plugins := make([]Plugin, len(l.Plugins))
	for i, raw := range l.Plugins {
		// A plugin that does not parse is refused by Validate.
		plugins[i], _ = parsePlugin(raw)
	}
	return plugins
}

// Declares reports whether a plugin of the list declares a capability.
func (l *List) Declares(capability string) bool {
	return slices.ContainsFunc(l.Parsed(), func(p Plugin) bool { return p.Capabilities[capability] })
}

// SetArgs lays values over args.cni of every plugin, key by key (NPWG
// 4.1.2.1.6); other args stay.
func (l *List) SetArgs(source string, values map[string]json.RawMessage) error {
	if len(values) == 0 {
		return nil
	}
	l.Plugins = slices.Clone(l.Plugins) // a definition may serve several attachments
	for i, raw := range l.Plugins {
		plugin, err := decodeObject(raw)
		if err != nil {
			return Invalid.Errorf("%s: plugins[%d]: %w", source, i, err)
		}
		args, err := decodeObject(plugin["args"])
		if err != nil {
			return Invalid.Errorf("%s: plugins[%d].args: %w", source, i, err)
		}
		cni, err := decodeObject(args["cni"])
		if err != nil {
			return Invalid.Errorf("%s: plugins[%d].args.cni: %w", source, i, err)
		}
		maps.Copy(cni, values)
		args["cni"] = encode(cni)
		plugin["args"] = encode(args)
		l.Plugins[i] = encode(plugin)
	}
	return nil
}

// decodeObject reads a JSON object's values verbatim; nothing or null is an
// empty object.
func decodeObject(raw json.RawMessage) (map[string]json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if isNull(raw) {
		return object, nil
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, decodeError("value", err)
	}
	return object, nil
}

// encode writes what cannot fail to be JSON: values that were JSON before.
func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return raw
}
