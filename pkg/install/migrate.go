package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Migrate turns a Multus configuration into our options: the conf or conflist
// of the thin plugin or of multus-shim, or the daemon's daemon-config.json,
// OpenShift's included. The warnings say what has no effect or changes, and
// why. An error names what has to be done by hand.
//
// What Multus does by default and we do not is written in so many words:
// definitions of other namespaces may be named, and routes are left alone.
func Migrate(conf []byte, source string) (options json.RawMessage, warnings []string, err error) {
	in, err := multusEntry(conf, source)
	if err != nil {
		return nil, nil, err
	}
	m := migration{source: source, in: spelled(in), out: map[string]json.RawMessage{}}
	m.set("namespaceIsolation", false)
	m.set("routing", map[string]string{"mode": network.RoutingPlain})
	m.set("confDir", "/etc/cni/multus/net.d")
	if own := m.in["namespaceIsolation"]; own == nil || string(own) == "null" {
		m.warn("namespaceIsolation", "false is added: as with Multus, pods may name definitions of other namespaces")
	}
	m.warn("routing", `{"mode":"plain"} is added: as with Multus, routes are left as the networks set them`)
	for _, key := range slices.Sorted(maps.Keys(m.in)) {
		m.take(key, m.in[key])
	}
	if err = errors.Join(append(m.refused, m.chooseCluster())...); err != nil {
		return nil, nil, err
	}
	if options, err = encode(m.out); err != nil {
		return nil, nil, err
	}
	if _, unknown, perr := (Settings{Options: options}).parse(); perr != nil {
		return nil, nil, fmt.Errorf("%s: %w", source, perr)
	} else if len(unknown) > 0 {
		m.warnings = append(m.warnings, unknown...)
	}
	return options, m.warnings, nil
}

// multusEntry finds the plugin's entry in what may be a conf, a conflist or
// the daemon's configuration, which has no type.
func multusEntry(conf []byte, source string) (map[string]json.RawMessage, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(conf, &top); err != nil {
		return nil, network.Malformed.Errorf("%s: want a Multus configuration, a JSON object: %w", source, err)
	}
	if raw, isList := top["plugins"]; isList {
		var plugins []map[string]json.RawMessage
		if err := json.Unmarshal(raw, &plugins); err != nil {
			return nil, network.Malformed.Errorf("%s: plugins: %w", source, err)
		}
		for _, p := range plugins {
			if isMultus(p["type"]) {
				return p, nil
			}
		}
		return nil, network.Invalid.Errorf("%s: none of its plugins is multus or multus-shim", source)
	}
	daemon := top["type"] == nil && slices.ContainsFunc([]string{"chrootDir", "socketDir", "daemonSocketDir", "multusConfigFile", "multusAutoconfigDir", "cniConfigDir"},
		func(key string) bool { return top[key] != nil })
	if !daemon && !isMultus(top["type"]) {
		return nil, network.Invalid.Errorf("%s: type is %s, want multus, multus-shim, or the daemon's daemon-config.json", source, orNone(top["type"]))
	}
	return top, nil
}

// spelled gives keys the case that they have here: Multus reads any.
func spelled(in map[string]json.RawMessage) map[string]json.RawMessage {
	known := slices.Concat(sameInBoth(), pathsInBoth(), elsewhere(), slices.Collect(maps.Keys(multusOnly())))
	out := map[string]json.RawMessage{}
	for key, value := range in {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) })
		if i >= 0 && in[known[i]] == nil {
			key = known[i]
		}
		out[key] = value
	}
	return out
}

func isMultus(raw json.RawMessage) bool {
	var name string
	return json.Unmarshal(raw, &name) == nil && multusType(name)
}

func multusType(name string) bool { return name == "multus" || name == "multus-shim" }

func orNone(raw json.RawMessage) string {
	if raw == nil {
		return "missing"
	}
	return string(raw)
}

// migration is one configuration on its way.
type migration struct {
	source   string
	in, out  map[string]json.RawMessage
	warnings []string
	refused  []error
}

func (m *migration) set(key string, value any) {
	if raw, err := json.Marshal(value); err == nil {
		m.out[key] = raw
	}
}

func (m *migration) warn(key, why string) {
	m.warnings = append(m.warnings, fmt.Sprintf("%s: %q %s", m.source, key, why))
}

func (m *migration) refuse(key, why string) {
	m.refused = append(m.refused, network.Invalid.Errorf("%s: %q %s", m.source, key, why))
}

func (m *migration) text(key string) string {
	var s string
	if json.Unmarshal(m.in[key], &s) != nil {
		return ""
	}
	return s
}

// take honours one key, or says why not.
func (m *migration) take(key string, value json.RawMessage) {
	if string(value) == "null" {
		return
	}
	why, noEffect := multusOnly()[key]
	switch {
	case slices.Contains(sameInBoth(), key):
		m.out[key] = value
	case slices.Contains(pathsInBoth(), key):
		m.takePath(key)
	case key == "cniDir":
		m.takeRecords()
	case noEffect:
		m.warn(key, "is left out: "+why)
	case slices.Contains(elsewhere(), key): // chooseCluster reads them; or they say what the file is
	default:
		m.warn(key, "is no key of Multus that is known here, and is left out")
	}
}

// sameInBoth are keys with Multus's name, type and meaning.
func sameInBoth() []string {
	return []string{
		"defaultNetworks", "systemNamespaces", "multusNamespace", "namespaceIsolation", "globalNamespaces",
		"capabilities", "logLevel", "logToStderr",
	}
}

// pathsInBoth are keys whose value is a path, which the daemon sees from
// inside its container.
func pathsInBoth() []string {
	return []string{"confDir", "binDir", "logFile", "readinessindicatorfile"}
}

// elsewhere are keys that are dealt with together, or say nothing.
func elsewhere() []string {
	return []string{"type", "name", "cniVersion", "clusterNetwork", "delegates", "multusAutoconfigDir", "cniConfigDir", "multusMasterCNI", "multusMasterCNIFile", "cniDir"}
}

// multusOnly are keys that do nothing here, each with the reason.
func multusOnly() map[string]string {
	return map[string]string{
		"kubeconfig":               "the plugin talks to no API server; the agent has its own credentials",
		"auxiliaryCNIChainName":    "chain those plugins in the cluster network's own conflist, or in the folder of its name",
		"retryDeleteOnError":       "a failed DEL is always kept and tried again",
		"allowTryDeleteOnErr":      "a failed DEL is always kept and tried again",
		"logOptions":               "the plugin does not rotate its log file: let logrotate do it",
		"socketDir":                "agentSocket names the agent's socket",
		"daemonSocketDir":          "agentSocket names the agent's socket",
		"chrootDir":                "plugins run in the node's own namespaces",
		"perNodeCertificate":       "the agent uses its ServiceAccount's token, in memory",
		"connectionLimit":          "plugins do not run in the agent",
		"metricsPort":              "--metrics-address of multiplexerd run says where metrics are",
		"enablePprof":              "multiplexerd has no such thing",
		"multusConfigFile":         "install makes the conf",
		"multusKubeconfigFileHost": "no token or kubeconfig is kept on disk",
		"forceCNIVersion":          "the cluster network's file is never written",
		"overrideNetworkName":      "our conf always has the cluster network's name",
		"cniConf":                  "Multus does not read it either",
		"dns":                      "DNS settings belong to the networks' own configurations",
		"ipam":                     "address management belongs to the networks' own configurations",
	}
}

// takeRecords says where Multus's records are, by which the pods that it
// attached are detached, unless they are where they are looked for anyway.
func (m *migration) takeRecords() {
	if m.takePath("cniDir"); string(m.out["cniDir"]) == strconv.Quote(network.MultusRecords) {
		delete(m.out, "cniDir")
	}
}

// takePath takes a path over as the node knows it.
func (m *migration) takePath(key string) {
	path := m.text(key)
	if path == "" {
		return
	}
	m.set(key, m.onNode(key, path))
}

// onNode turns a path inside Multus's container into the node's: its
// manifests mount the node's directories below /host, or the whole node at
// chrootDir.
func (m *migration) onNode(key, path string) string {
	for _, prefix := range []string{m.text("chrootDir"), "/host"} {
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/")+"/"); ok && prefix != "" && prefix != "/" {
			m.warn(key, fmt.Sprintf("%s is inside Multus's container; /%s is taken for the node's path", path, rest))
			return "/" + rest
		}
	}
	return filepath.Clean(path)
}

// chooseCluster says what the cluster network is. The usual case, the first
// file of the runtime's directory, needs no key.
func (m *migration) chooseCluster() error {
	var delegates []json.RawMessage
	if raw := m.in["delegates"]; raw != nil {
		if err := json.Unmarshal(raw, &delegates); err != nil {
			return network.Malformed.Errorf("%s: delegates: %w", m.source, err)
		}
	}
	auto, conf := m.text("multusAutoconfigDir"), m.text("cniConfigDir")
	master := m.text("multusMasterCNI") + m.text("multusMasterCNIFile")
	switch ref := m.text("clusterNetwork"); {
	case ref != "":
		switch {
		case filepath.IsAbs(ref):
			ref = m.onNode("clusterNetwork", ref)
		case strings.Contains(ref, "/"):
			m.warn("clusterNetwork", ref+" is a NetworkAttachmentDefinition's name, which install refuses: write its spec.config to a file of the node, and name that file's path")
		default:
			m.warn("clusterNetwork", ref+" is a name: install knows it if a file of the runtime's directory has it inside; of another file, or of a NetworkAttachmentDefinition, name a file's path")
		}
		m.set("clusterNetwork", ref)
		if len(delegates) > 0 {
			m.warn("delegates", "is left out, as Multus does when clusterNetwork is set")
		}
		return nil
	case master != "":
		if auto == "" {
			auto = "/etc/cni/net.d"
		}
		m.set("clusterNetwork", m.onNode("multusMasterCNI", filepath.Join(auto, master)))
	case auto != "" && filepath.Clean(auto) != filepath.Clean(or(conf, "/etc/cni/net.d")):
		m.set("clusterNetwork", m.onNode("multusAutoconfigDir", auto))
	}
	return m.dropDelegates(delegates)
}

// dropDelegates leaves inline configurations out: the cluster network has a
// file of its own, and others are networks like any.
func (m *migration) dropDelegates(delegates []json.RawMessage) error {
	for i, raw := range delegates {
		field := fmt.Sprintf("delegates[%d]", i)
		list, err := network.ParseList(field, "", raw)
		if err != nil {
			return fmt.Errorf("%s: %w", m.source, err)
		}
		if i > 0 {
			name := or(list.Name, "NAME")
			m.refuse(field, fmt.Sprintf("(%s) would be every pod's: take it out of delegates in a copy of this file, write it to %s/%s.conflist or make a NetworkAttachmentDefinition of it, and put %q into defaultNetworks of the copy; then run migrate on the copy", named(list), confDirOf(m.out), name, name))
			continue
		}
		m.warn(field, fmt.Sprintf("(%s) is left out: the cluster network's own file is used. Multus may have renamed that to .old: give it its name back. If it has none, write this delegate to one, such as 10-%s.conflist in the runtime's directory", named(list), or(list.Name, "NAME")))
	}
	return nil
}

// named tells an inline configuration from others.
func named(list *network.List) string {
	if list.Name == "" {
		return "no name, type " + strings.Join(list.Types(), ", ")
	}
	return fmt.Sprintf("network %q", list.Name)
}

func confDirOf(options map[string]json.RawMessage) string {
	var dir string
	if json.Unmarshal(options["confDir"], &dir) != nil {
		return "confDir"
	}
	return dir
}

func or(s, unset string) string {
	if s == "" {
		return unset
	}
	return s
}
