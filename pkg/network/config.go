package network

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// PodAnnotations is the capability by which containerd and CRI-O hand the
// pod's annotations to a plugin, at ADD and at DEL.
const PodAnnotations = "io.kubernetes.cri.pod-annotations"

// Config is the plugin's own configuration: one entry of a conflist, as CNI
// delivers it on standard input. ParseConfig fills in every default.
type Config struct {
	CNIVersion   string
	Name         string
	Capabilities map[string]bool // what the runtime is asked to send

	ClusterNetwork string            // file, directory, NAD or network name; "" = first fit in ClusterConfDir
	ClusterConfDir string            // the runtime's own conf directory
	Delegates      []json.RawMessage // inline confs or conflists; the first is the cluster network

	DefaultNetworks    []string // more networks for every pod outside SystemNamespaces
	SystemNamespaces   []string
	MultusNamespace    string // where names without a namespace in this file are looked up
	NamespaceIsolation bool
	GlobalNamespaces   []string // whose definitions every pod may name
	NamespaceDefaults  bool     // pods that ask for nothing get their namespace's networks

	ConfDir     string
	AgentSocket string
	StateDir    string
	CNIDir      string // where Multus kept its records
	BinDir      string
	Embedded    []string // plugin types that run in process; nil = all that this build has

	AddTimeout   time.Duration // budget of an ADD, undo included
	DelTimeout   time.Duration // budget of a DEL, and of ADD's undo
	ClusterCIDRs []netip.Prefix
	Routing      Routing
	Runtime      string // "containerd", "cri-o" or ""
	Result       string // ResultMerged or ResultCluster

	ReadinessIndicatorFile string
	LogLevel               string
	LogFile                string
	LogToStderr            bool

	// What the runtime adds to the file's own keys.
	RuntimeConfig    map[string]json.RawMessage
	PrevResult       json.RawMessage
	ValidAttachments []types.GCAttachment // nil when the key was absent
}

// Routing says how traffic is kept on the right NIC.
type Routing struct {
	Mode   string `json:"mode"`   // RoutingGuard or RoutingPlain
	Strict bool   `json:"strict"` // what would only be warned about is an error
}

// The values of Routing.Mode.
const (
	RoutingGuard = "guard" // the rules of docs/routing.md
	RoutingPlain = "plain" // the networks' routes are left as they are
)

// DefaultStateDir is stateDir where no configuration says otherwise.
const DefaultStateDir = "/var/lib/cni/multiplexer"

// MultusRecords is where Multus keeps its records by default.
const MultusRecords = "/var/lib/cni/multus"

// The values of Config.Result and Config.Runtime.
const (
	ResultMerged  = "merged"
	ResultCluster = "cluster"
	Containerd    = "containerd"
	CRIO          = "cri-o"
)

// fileConfig is Config as it is written. Pointers tell absent from empty.
type fileConfig struct {
	CNIVersion   string            `json:"cniVersion"`
	CNIVersions  []string          `json:"cniVersions"`
	Name         string            `json:"name"`
	Type         string            `json:"type"`
	Capabilities map[string]bool   `json:"capabilities"`
	Delegates    []json.RawMessage `json:"delegates"`

	ClusterNetwork     string   `json:"clusterNetwork"`
	ClusterConfDir     string   `json:"clusterConfDir"`
	DefaultNetworks    []string `json:"defaultNetworks"`
	SystemNamespaces   []string `json:"systemNamespaces"`
	MultusNamespace    string   `json:"multusNamespace"`
	NamespaceIsolation *bool    `json:"namespaceIsolation"`
	GlobalNamespaces   *string  `json:"globalNamespaces"`
	NamespaceDefaults  *bool    `json:"namespaceDefaults"`

	ConfDir     string   `json:"confDir"`
	AgentSocket *string  `json:"agentSocket"`
	StateDir    string   `json:"stateDir"`
	CNIDir      string   `json:"cniDir"`
	BinDir      string   `json:"binDir"`
	Embedded    []string `json:"embedded"`

	Timeout struct {
		Add string `json:"add"`
		Del string `json:"del"`
	} `json:"timeout"`
	ClusterCIDRs []string `json:"clusterCIDRs"`
	Runtime      string   `json:"runtime"`
	Routing      Routing  `json:"routing"`
	Result       string   `json:"result"`

	ReadinessIndicatorFile string `json:"readinessindicatorfile"`
	LogLevel               string `json:"logLevel"`
	LogFile                string `json:"logFile"`
	LogToStderr            *bool  `json:"logToStderr"`

	RuntimeConfig     map[string]json.RawMessage `json:"runtimeConfig"`
	PrevResult        json.RawMessage            `json:"prevResult"`
	ValidAttachments  json.RawMessage            `json:"cni.dev/valid-attachments"`
	ValidAttachments0 json.RawMessage            `json:"cni.dev/attachments"`
}

// noEffect returns Multus's keys for which we have no need, each with the
// reason.
func noEffect() map[string]string {
	return map[string]string{
		"kubeconfig":               "the plugin talks to no API server; the agent has its own credentials",
		"auxiliaryCNIChainName":    "chain plugins in the cluster network's own conflist",
		"multusConfigFile":         "the installer writes the configuration",
		"multusAutoconfigDir":      "clusterConfDir says where the cluster network is looked for",
		"multusMasterCNIFile":      "clusterNetwork names the cluster network",
		"multusKubeconfigFileHost": "no token or kubeconfig is kept on disk",
		"retryDeleteOnError":       "a failed DEL is always kept and retried",
		"logOptions":               "the log file is not rotated by the plugin",
		"socketDir":                "agentSocket names the agent's socket",
		"daemonSocketDir":          "agentSocket names the agent's socket",
		"dns":                      "DNS settings belong to the networks' own configurations",
		"ipam":                     "address management belongs to the networks' own configurations",
	}
}

// ParseConfig reads the plugin's configuration as CNI delivers it on
// standard input. Errors are Malformed (no JSON) or Invalid, and name the
// field, the value and what would be right.
func ParseConfig(stdin []byte) (*Config, error) {
	const what = "multiplexer's configuration"
	var in fileConfig
	if err := json.Unmarshal(stdin, &in); err != nil {
		return nil, decodeError(what, err)
	}
	c := &Config{
		CNIVersion:             in.CNIVersion,
		Name:                   in.Name,
		Capabilities:           in.Capabilities,
		ClusterNetwork:         in.ClusterNetwork,
		Delegates:              in.Delegates,
		DefaultNetworks:        in.DefaultNetworks,
		ClusterConfDir:         or(in.ClusterConfDir, "/etc/cni/net.d"),
		SystemNamespaces:       in.SystemNamespaces,
		MultusNamespace:        or(in.MultusNamespace, "kube-system"),
		NamespaceIsolation:     deref(in.NamespaceIsolation, true),
		GlobalNamespaces:       splitList(deref(in.GlobalNamespaces, "default")),
		NamespaceDefaults:      deref(in.NamespaceDefaults, true),
		ConfDir:                or(in.ConfDir, "/etc/cni/multiplexer/net.d"),
		AgentSocket:            deref(in.AgentSocket, "/run/multiplexer/agent.sock"),
		StateDir:               or(in.StateDir, DefaultStateDir),
		CNIDir:                 or(in.CNIDir, MultusRecords),
		BinDir:                 in.BinDir,
		Embedded:               in.Embedded,
		Runtime:                in.Runtime,
		Routing:                Routing{Mode: or(in.Routing.Mode, RoutingGuard), Strict: in.Routing.Strict},
		Result:                 or(in.Result, ResultMerged),
		ReadinessIndicatorFile: in.ReadinessIndicatorFile,
		LogLevel:               or(in.LogLevel, "warning"),
		LogFile:                in.LogFile,
		LogToStderr:            deref(in.LogToStderr, true),
		RuntimeConfig:          in.RuntimeConfig,
	}
	if in.SystemNamespaces == nil {
		c.SystemNamespaces = []string{"kube-system"}
	}
	if !isNull(in.PrevResult) {
		c.PrevResult = in.PrevResult
	}
	if err := c.readValues(&in); err != nil {
		return nil, err
	}
	return c, c.validate()
}

// readValues parses the values that are strings in the file and types here.
func (c *Config) readValues(in *fileConfig) error {
	var err error
	if c.AddTimeout, err = duration("timeout.add", in.Timeout.Add, 100*time.Second); err != nil {
		return err
	}
	if c.DelTimeout, err = duration("timeout.del", in.Timeout.Del, 45*time.Second); err != nil {
		return err
	}
	if c.AddTimeout <= c.DelTimeout {
		return Invalid.Errorf("timeout.add %s must be longer than timeout.del %s: an ADD that fails needs timeout.del of its time to undo",
			c.AddTimeout, c.DelTimeout)
	}
	for i, s := range in.ClusterCIDRs {
		p, perr := netip.ParsePrefix(s)
		if perr != nil || p.Addr().Is4In6() {
			return Invalid.Errorf("clusterCIDRs[%d] %q: want an address range such as 10.244.0.0/16", i, clip(s))
		}
		if p.Bits() < 2 {
			return Invalid.Errorf("clusterCIDRs[%d] %q: that is every address; name the ranges of the cluster's pods and Services, such as 10.244.0.0/16", i, s)
		}
		c.ClusterCIDRs = append(c.ClusterCIDRs, p.Masked())
	}
	if c.ValidAttachments, err = validAttachments(in.ValidAttachments, in.ValidAttachments0); err != nil {
		return err
	}
	return nil
}

// validAttachments reads GC's list under its name or its former one. Absent
// is nil; null, which a runtime without pods sends, is an empty list.
func validAttachments(lists ...json.RawMessage) ([]types.GCAttachment, error) {
	for _, raw := range lists {
		if raw == nil {
			continue
		}
		list := []types.GCAttachment{}
		if isNull(raw) {
			return list, nil
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, decodeError("cni.dev/valid-attachments", err)
		}
		return list, nil
	}
	return nil, nil
}

func (c *Config) validate() error {
	if err := oneOf("routing.mode", c.Routing.Mode, RoutingGuard, RoutingPlain); err != nil {
		return err
	}
	if err := oneOf("result", c.Result, ResultMerged, ResultCluster); err != nil {
		return err
	}
	if err := oneOf("runtime", c.Runtime, "", Containerd, CRIO); err != nil {
		return err
	}
	if err := oneOf("logLevel", c.LogLevel, "debug", "verbose", "info", "warning", "error", "panic"); err != nil {
		return err
	}
	for field, path := range map[string]string{
		"stateDir": c.StateDir, "cniDir": c.CNIDir, "confDir": c.ConfDir, "clusterConfDir": c.ClusterConfDir, "binDir": c.BinDir,
		"agentSocket": c.AgentSocket, "logFile": c.LogFile, "readinessindicatorfile": c.ReadinessIndicatorFile,
	} {
		if path != "" && !filepath.IsAbs(path) {
			return Invalid.Errorf("%s %q: want an absolute path", field, clip(path))
		}
	}
	for field, names := range map[string][]string{
		"systemNamespaces": c.SystemNamespaces, "globalNamespaces": c.GlobalNamespaces, "multusNamespace": {c.MultusNamespace},
	} {
		for _, name := range names {
			if err := validateKubeName(field, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Warnings names the keys of a configuration that are accepted and change
// nothing.
func Warnings(stdin []byte) []string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(stdin, &keys) != nil {
		return nil
	}
	var out []string
	unknown := func(key string) {
		out = append(out, "configuration key \""+key+"\" is not known and has no effect")
	}
	inner := innerKeys()
	for _, field := range slices.Sorted(maps.Keys(inner)) {
		for _, key := range unknownKeys(keys[field], inner[field]) {
			unknown(field + "." + key)
		}
	}
	known, noEffect := tagNames(fileConfig{}), noEffect()
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if reason, ok := noEffect[key]; ok {
			out = append(out, "configuration key \""+key+"\" has no effect: "+reason)
		} else if !isKnown(key, known) {
			unknown(key)
		}
	}
	return out
}

// UnknownKeys returns the keys of a configuration that nobody reads, each with
// those that it may be a misspelling of.
func UnknownKeys(stdin []byte) map[string][]string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(stdin, &keys) != nil {
		return nil
	}
	out := map[string][]string{}
	known, noEffect := tagNames(fileConfig{}), noEffect()
	for key := range keys {
		if _, ok := noEffect[key]; !ok && !isKnown(key, known) {
			out[key] = slices.Sorted(maps.Keys(known))
		}
	}
	for field, known := range innerKeys() {
		var all []string
		for _, key := range slices.Sorted(maps.Keys(known)) {
			all = append(all, field+"."+key)
		}
		for _, key := range unknownKeys(keys[field], known) {
			out[field+"."+key] = all
		}
	}
	return out
}

// innerKeys are those of the objects in a configuration.
func innerKeys() map[string]map[string]bool {
	return map[string]map[string]bool{"routing": tagNames(Routing{}), "timeout": tagNames(fileConfig{}.Timeout)}
}

// isKnown reports whether somebody reads a key: we, or the runtime.
func isKnown(key string, known map[string]bool) bool {
	return known[key] || key == "args" || strings.HasPrefix(key, "cni.dev/")
}

// unknownKeys returns the keys of an object that nobody reads.
func unknownKeys(raw json.RawMessage, known map[string]bool) []string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) != nil {
		return nil // parsing says so
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(keys)), func(key string) bool { return known[key] })
}

func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return Invalid.Errorf("%s %q: want one of %s", field, clip(value), quoteAll(allowed))
}

func duration(field, s string, unset time.Duration) (time.Duration, error) {
	if s == "" {
		return unset, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > time.Hour {
		return 0, Invalid.Errorf("%s %q: want a duration from 1s to 1h, such as \"100s\"", field, clip(s))
	}
	return d, nil
}

// ParseForDEL is ParseConfig for a DEL: what DEL needs is in the journal, and a
// pod must not outlive a misspelt value. Where a value is refused, only the
// keys that say where things are count.
func ParseForDEL(stdin []byte) (*Config, error) {
	c, err := ParseConfig(stdin)
	if !errors.Is(err, Invalid) {
		return c, err
	}
	var keys map[string]json.RawMessage
	if err = json.Unmarshal(stdin, &keys); err != nil {
		return nil, decodeError("multiplexer's configuration", err)
	}
	needed := []string{
		"cniVersion", "name", "type", "clusterNetwork", "clusterConfDir", "delegates", "confDir", "stateDir", "cniDir", "binDir", "embedded", "runtimeConfig", "prevResult",
	}
	maps.DeleteFunc(keys, func(key string, _ json.RawMessage) bool { return !slices.Contains(needed, key) })
	// Which plugins are embedded says where a network's DEL runs, if it can be read.
	var embedded []string
	if json.Unmarshal(keys["embedded"], &embedded) != nil {
		delete(keys, "embedded")
	}
	return ParseConfig(encode(keys))
}
