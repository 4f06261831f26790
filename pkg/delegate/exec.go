package delegate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// embeddedPrefix marks the "path" of a plugin that runs in this process.
const embeddedPrefix = "embedded:"

// NestedEnv is set for every process that a Runner starts. A multiplexer
// that finds it was called by one of its own delegates.
const NestedEnv = "MULTIPLEXER_NESTED"

// execution is libcni's Exec for one attachment and one verb.
type execution struct {
	version.PluginDecoder
	runner     *Runner
	attachment *network.Attachment
	request    Request
	result     json.RawMessage // of the last plugin that ADD ran
	parsed     types.Result    // the same
}

var _ invoke.Exec = (*execution)(nil)

// FindInPath returns where a plugin type is found: in this process, or in
// the path. Our own executable under another name is refused.
func (x *execution) FindInPath(pluginType string, path []string) (string, error) {
	return x.runner.find(pluginType, path)
}

func (r *Runner) find(pluginType string, path []string) (string, error) {
	if _, ok := r.Embedded[pluginType]; ok {
		return embeddedPrefix + pluginType, nil
	}
	if network.MetaPlugin(pluginType) {
		return "", network.Invalid.Errorf("plugin type %q is a meta-plugin and cannot be a delegate", pluginType)
	}
	found, err := invoke.FindInPath(pluginType, path)
	if err != nil {
		return "", network.Invalid.Errorf("plugin %q is in none of %s: install it there, or correct the network's \"type\"", pluginType, strings.Join(path, ", "))
	}
	self, errSelf := os.Stat(r.Self)
	other, errOther := os.Stat(found)
	if errSelf == nil && errOther == nil && os.SameFile(self, other) {
		return "", network.Invalid.Errorf("plugin type %q is multiplexer itself (%s): a network must not lead back to it", pluginType, found)
	}
	return found, nil
}

// ExecPlugin runs one plugin of the chain with its own bytes in place of the
// stand-in, and returns a stand-in for its result: the result itself goes to
// the next plugin, and to the journal, as it was printed.
func (x *execution) ExecPlugin(ctx context.Context, path string, standIn []byte, environ []string) ([]byte, error) {
	prev := x.request.PrevResult
	if x.result != nil {
		prev = x.result
	}
	stdin, err := request(x.attachment, standIn, prev)
	if err != nil {
		return nil, err
	}
	out, err := x.start(ctx, path, stdin, environ)
	if err == nil && slices.Contains(environ, "CNI_COMMAND=ADD") {
		err = x.take(out)
	}
	if err != nil {
		return nil, &pluginError{pluginType: strings.TrimPrefix(filepath.Base(path), embeddedPrefix), err: err}
	}
	return fmt.Appendf(nil, `{"cniVersion":%q}`, x.attachment.CNIVersion), nil
}

// take keeps a plugin's result. One that no plugin behind it could read is
// its own fault, and not theirs.
func (x *execution) take(out []byte) error {
	raw, version, err := versioned(out, x.attachment.CNIVersion)
	if err != nil {
		return err
	}
	if x.parsed, err = create.Create(version, raw); err != nil {
		return network.Malformed.Errorf("result %q: %w", short(string(raw)), err)
	}
	x.result = raw
	return nil
}

// versioned returns a plugin's result with its version: without one it is the
// configuration's (CNI 1.1 section 5).
func versioned(out []byte, version string) (json.RawMessage, string, error) {
	var result struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, "", network.Malformed.Errorf("printed %q, which is no CNI result: %w", short(string(out)), err)
	}
	if result.CNIVersion != "" {
		return out, result.CNIVersion, nil
	}
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal(out, &object); err != nil {
		return nil, "", network.Malformed.Errorf("printed %q, which is no CNI result: %w", short(string(out)), err)
	}
	if object == nil { // null
		object = map[string]json.RawMessage{}
	}
	object["cniVersion"] = fmt.Appendf(nil, "%q", version)
	whole, err := json.Marshal(object)
	return whole, version, err
}

func (x *execution) start(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if pluginType, ok := strings.CutPrefix(path, embeddedPrefix); ok {
		call := callFrom(environ)
		call.Stdin, call.StateDir, call.State, call.Exec = stdin, x.runner.StateDir, x.request.State, x.execByType
		return x.runner.Embedded[pluginType].Run(ctx, call)
	}
	return x.runner.runProcess(ctx, path, stdin, append(environ, NestedEnv+"="+x.request.ContainerID), x.request.Guard)
}

// execByType is what an embedded plugin runs its IPAM with. The environment
// holds the call's arguments, never this process's.
func (x *execution) execByType(ctx context.Context, pluginType string, call network.Call) ([]byte, error) {
	path, err := x.runner.find(pluginType, call.Path)
	if err != nil {
		return nil, err
	}
	args := invoke.Args{
		Command: call.Command, ContainerID: call.ContainerID, NetNS: call.Netns, IfName: call.IfName,
		PluginArgsStr: call.Args, Path: strings.Join(call.Path, string(os.PathListSeparator)),
	}
	out, err := x.start(ctx, path, call.Stdin, args.AsEnv())
	if err != nil {
		return nil, &pluginError{pluginType: pluginType, err: err}
	}
	return out, nil
}

// callFrom turns libcni's environment back into values.
func callFrom(environ []string) network.Call {
	var call network.Call
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		switch key {
		case "CNI_COMMAND":
			call.Command = value
		case "CNI_CONTAINERID":
			call.ContainerID = value
		case "CNI_NETNS":
			call.Netns = value
		case "CNI_IFNAME":
			call.IfName = value
		case "CNI_ARGS":
			call.Args = value
		case "CNI_PATH":
			call.Path = strings.Split(value, string(os.PathListSeparator))
		}
	}
	return call
}

// pluginError says which plugin of a chain failed.
type pluginError struct {
	pluginType string
	err        error
}

func (e *pluginError) Error() string { return fmt.Sprintf("plugin %q: %s", e.pluginType, e.err) }
func (e *pluginError) Unwrap() error { return e.err }
