package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Runner runs attachments. One serves a whole CNI call.
type Runner struct {
	Path     []string                    // where executables are looked for
	CacheDir string                      // libcni's scratch; nothing is kept in it
	StateDir string                      // for embedded plugins: Config.StateDir
	Embedded map[string]network.Embedded // by plugin type
	Stderr   io.Writer                   // what delegates print there is passed on
	Self     string                      // our own executable, never run as a delegate
}

// Request is the rest of what a delegate is called with.
type Request struct {
	ContainerID string
	Netns       string        // "" when the namespace is gone
	State       network.State // for an embedded plugin; nil where there is no journal
	// Guard is a file that every process started for this call inherits; nil
	// where there is no journal. The caller closes it.
	Guard *os.File
	// PrevResult is Result.Raw of the ADD, at DEL and CHECK.
	PrevResult json.RawMessage
}

// Preflight reports whether every plugin of the attachment can be found, and
// the IPAM plugins of embedded ones. A
// list with a missing plugin must not be started: libcni would run the
// plugins before it, and its DEL would stop at it.
func (r *Runner) Preflight(a *network.Attachment) error {
	for _, pluginType := range a.Types() {
		if _, err := r.find(pluginType, r.Path); err != nil {
			return fmt.Errorf("%s from %s: %w", a, a.Source, err)
		}
	}
	for _, raw := range a.Plugins {
		// What "ipam" means to others is their affair: to some it is no executable.
		var plugin struct {
			Type string
			IPAM struct{ Type string }
		}
		if err := json.Unmarshal(raw, &plugin); err != nil || plugin.IPAM.Type == "" || r.Embedded[plugin.Type] == nil {
			continue
		}
		if _, err := r.find(plugin.IPAM.Type, r.Path); err != nil {
			return fmt.Errorf("%s from %s: ipam: %w", a, a.Source, err)
		}
	}
	return nil
}

// Add attaches. The result is at the attachment's own cniVersion, as a
// later DEL gets it back. A delegate's *types.Error stays reachable.
func (r *Runner) Add(ctx context.Context, a *network.Attachment, req Request) (*Result, error) {
	x, cni := r.prepare(a, req)
	rt := x.runtimeConf()
	_, err := cni.AddNetworkList(ctx, stub(a), rt)
	if dropErr := r.dropCache(a, rt); err == nil {
		err = dropErr
	}
	if err != nil {
		return nil, fmt.Errorf("attach %s from %s: %w", a, a.Source, classify(err))
	}
	result, err := read(x.result, x.parsed, a.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("attach %s from %s: %w", a, a.Source, err)
	}
	return result, nil
}

// Result is what an attachment's ADD returned.
type Result struct {
	Raw    json.RawMessage // at the attachment's own cniVersion: the prevResult of CHECK and DEL
	Newest *current.Result // at the highest version, for merging
}

// read takes a plugin's result, and brings it to the version of its
// configuration should it have another. One that cannot be merged is refused.
func read(raw json.RawMessage, result types.Result, wanted string) (*Result, error) {
	newest, err := network.Newest(result)
	if err != nil {
		return nil, err
	}
	if result.Version() == wanted {
		return &Result{Raw: raw, Newest: newest}, nil
	}
	own, err := result.GetAsVersion(wanted)
	if err != nil {
		return nil, network.Malformed.Errorf("result: %w", err)
	}
	converted, err := json.Marshal(own)
	if err != nil {
		return nil, network.Malformed.Errorf("result: %w", err)
	}
	return &Result{Raw: converted, Newest: newest}, nil
}

// Del detaches.
func (r *Runner) Del(ctx context.Context, a *network.Attachment, req Request) error {
	return r.run(a, req, "detach", func(cni *libcni.CNIConfig, rt *libcni.RuntimeConf) error {
		return cni.DelNetworkList(ctx, stub(a), rt)
	})
}

// Check calls the delegates' own CHECK. A list that asked not to be checked,
// or is older than CHECK (0.4.0), passes.
func (r *Runner) Check(ctx context.Context, a *network.Attachment, req Request) error {
	if known, err := version.GreaterThanOrEqualTo(a.CNIVersion, "0.4.0"); err != nil || !known {
		return err
	}
	return r.run(a, req, "check", func(cni *libcni.CNIConfig, rt *libcni.RuntimeConf) error {
		return cni.CheckNetworkList(ctx, stub(a), rt)
	})
}

// Status asks the delegates whether they can serve an ADD. Lists older than
// STATUS (1.1.0) can.
func (r *Runner) Status(ctx context.Context, a *network.Attachment) error {
	return r.run(a, Request{}, "status of", func(cni *libcni.CNIConfig, _ *libcni.RuntimeConf) error {
		return cni.GetStatusNetworkList(ctx, stub(a))
	})
}

// GC tells the delegates which attachments of this network are in use. Lists
// older than GC (1.1.0) are not asked. Every plugin is asked, whatever the
// others answer; the error joins theirs.
func (r *Runner) GC(ctx context.Context, a *network.Attachment, valid []types.GCAttachment) error {
	if valid == nil {
		valid = []types.GCAttachment{} // an empty list: null would be another message
	}
	_, cni := r.prepare(a, Request{})
	if err := cni.GCNetworkList(ctx, stub(a), &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return fmt.Errorf("collect garbage of network %q from %s: %w", a.Name, a.Source, err)
	}
	return nil
}

func (r *Runner) run(a *network.Attachment, req Request, verb string, call func(*libcni.CNIConfig, *libcni.RuntimeConf) error) error {
	x, cni := r.prepare(a, req)
	if err := call(cni, x.runtimeConf()); err != nil {
		return fmt.Errorf("%s %s from %s: %w", verb, a, a.Source, classify(err))
	}
	return nil
}

func (r *Runner) prepare(a *network.Attachment, req Request) (*execution, *libcni.CNIConfig) {
	x := &execution{runner: r, attachment: a, request: req}
	return x, libcni.NewCNIConfigWithCacheDir(r.Path, r.CacheDir, x)
}

// dropCache removes libcni's record of the attachment. The journal has the
// result; a second record could only disagree with it.
func (r *Runner) dropCache(a *network.Attachment, rt *libcni.RuntimeConf) error {
	err := os.Remove(filepath.Join(r.CacheDir, "results", a.Name+"-"+rt.ContainerID+"-"+rt.IfName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove libcni's scratch file: %w", err)
	}
	return nil
}

// Decode reads a Result.Raw, at the highest version.
func Decode(raw json.RawMessage) (*current.Result, error) {
	result, err := create.CreateFromBytes(raw)
	if err != nil {
		return nil, network.Malformed.Errorf("decode result: %w", err)
	}
	return network.Newest(result)
}

// Convert returns a Result.Raw at another version: the very bytes where it is
// that version already.
func Convert(raw json.RawMessage, version string) (json.RawMessage, error) {
	result, err := create.CreateFromBytes(raw)
	if err != nil {
		return nil, network.Malformed.Errorf("decode result: %w", err)
	}
	own, err := read(raw, result, version)
	if err != nil {
		return nil, err
	}
	return own.Raw, nil
}
