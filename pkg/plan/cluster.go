package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// ErrNoCluster and ErrChained are network's, whose rule chooses.
var (
	ErrNoCluster = network.ErrNoCluster
	ErrChained   = network.ErrChained
)

// Cluster returns the pod's cluster network: the one its default-network
// annotation names, else the configuration's. It alone gets the runtime's
// CNI_ARGS and runtimeConfig whole (NPWG 7.5).
func (p *Planner) Cluster(ctx context.Context, pod Pod, args [][2]string, ifname string) (*network.Attachment, error) {
	found, err := p.podCluster(ctx, pod)
	if found == nil && err == nil {
		found, err = p.nodeCluster(ctx)
	}
	if err != nil {
		return nil, err
	}
	if p.cluster = found; found.want.needs() {
		// Which device it gets depends on what the other networks choose.
		if err = p.findOthers(ctx, pod); err == nil {
			err = p.pair(pod)
		}
		if err != nil {
			p.cluster = nil // a DEL goes on with the others
			return nil, err
		}
	}
	a := &found.Attachment
	own := a.CapabilityArgs
	a.CapabilityArgs = maps.Clone(p.Config.RuntimeConfig)
	if a.CapabilityArgs == nil {
		a.CapabilityArgs = own
	}
	maps.Copy(a.CapabilityArgs, own)
	a.Cluster, a.IfName, a.Args = true, ifname, args
	return a, nil
}

// podCluster returns the network that replaces the cluster network for this
// pod, or nil. A name without a namespace means multusNamespace, as in
// Multus; isolation applies.
func (p *Planner) podCluster(ctx context.Context, pod Pod) (*planned, error) {
	const key = network.DefaultNetworkAnnotation
	selections, err := network.ParseSelections(key, pod.Annotations[key])
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", pod, err)
	}
	if len(selections) == 0 {
		return nil, nil
	}
	if len(selections) > 1 {
		return nil, network.Invalid.Errorf("pod %s: annotation %s names %d networks, want one", pod, key, len(selections))
	}
	if selections[0].Interface != "" {
		return nil, network.Invalid.Errorf("pod %s: annotation %s asks for interface %q; the runtime names the cluster network's interface", pod, key, selections[0].Interface)
	}
	a, err := p.selection(ctx, pod, p.Config.MultusNamespace, selections[0])
	if err != nil {
		return nil, fmt.Errorf("pod %s: annotation %s, network %q: %w", pod, key, selections[0].Name, err)
	}
	if a.DefaultRoute != nil {
		p.Warn("pod " + pod.String() + ": annotation " + key + ": \"default-route\" has no effect on the cluster network: its routes are its own")
		a.DefaultRoute = nil
	}
	a.want.Who = fmt.Sprintf("network %q (annotation %s)", a.Reference, key)
	return a, nil
}

// NodeCluster returns the cluster network that the configuration names:
// clusterNetwork, the first of delegates, or the first fit in clusterConfDir.
func (p *Planner) NodeCluster(ctx context.Context) (*network.Attachment, error) {
	found, err := p.nodeCluster(ctx)
	if err != nil {
		return nil, err
	}
	return &found.Attachment, nil
}

func (p *Planner) nodeCluster(ctx context.Context) (*planned, error) {
	if ref := p.Config.ClusterNetwork; ref != "" && len(p.Config.Delegates) == 0 && !filepath.IsAbs(ref) {
		return p.clusterByName(ctx, ref)
	}
	a, err := p.ownCluster()
	if err != nil {
		return nil, err
	}
	return &planned{Attachment: *a}, nil
}

// ownCluster is a cluster network that the node itself describes.
func (p *Planner) ownCluster() (*network.Attachment, error) {
	ref := p.Config.ClusterNetwork
	if ref != "" && len(p.Config.Delegates) > 0 {
		return nil, network.Invalid.Errorf("clusterNetwork %q and delegates[0] both name the cluster network: keep one of them", ref)
	}
	switch {
	case len(p.Config.Delegates) > 0:
		return p.inline(0)
	case ref == "":
		return firstFit(p.Config.ClusterConfDir)
	}
	return fromPath(ref)
}

func fromPath(path string) (*network.Attachment, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, network.Again.Errorf("%w (yet): clusterNetwork %s does not exist; the cluster's own network writes it when it is ready", ErrNoCluster, path)
	}
	if err != nil {
		return nil, network.IO.Errorf("clusterNetwork: %w", err)
	}
	if info.IsDir() {
		return firstFit(path)
	}
	list, err := onDisk().List(path, network.AlwaysMore)
	if err != nil {
		return nil, fmt.Errorf("clusterNetwork: %w", err)
	}
	if err = list.Validate(path); err != nil {
		return nil, fmt.Errorf("clusterNetwork: %w", err)
	}
	return &network.Attachment{List: *list, Reference: list.Name, Source: path}, nil
}

// firstFit returns the first network of a directory that can be the cluster's.
func firstFit(dir string) (*network.Attachment, error) {
	file, list, err := onDisk().FirstFit(dir)
	if err != nil {
		return nil, err
	}
	return &network.Attachment{List: *list, Reference: list.Name, Source: file}, nil
}

// clusterByName looks a name up in confDir, then in clusterConfDir, then
// among the definitions that are elsewhere: a node's own files need no agent.
func (p *Planner) clusterByName(ctx context.Context, ref string) (*planned, error) {
	var notDefined error
	s, err := ConfigReference(ref)
	if err == nil {
		var d *Definition
		d, notDefined = p.Files.Definition(ctx, p.Config.MultusNamespace, s.Namespace, s.Name)
		if notDefined == nil {
			return clusterOf(d), nil
		}
	}
	folder, err := readFolder(p.Config.ClusterConfDir, network.AlwaysMore)
	if err != nil {
		return nil, fmt.Errorf("clusterNetwork: %w", err)
	}
	// Our own conflist has the cluster network's name as a rule.
	folder.files = slices.DeleteFunc(folder.files, func(f file) bool {
		return slices.ContainsFunc(f.list.Types(), network.MetaPlugin)
	})
	found, err := folder.find(ref)
	if err != nil {
		return nil, fmt.Errorf("clusterNetwork: %w", err)
	}
	if found != nil {
		return &planned{Attachment: network.Attachment{List: *found.list, Reference: found.list.Name, Source: found.path}}, nil
	}
	if p.Definitions != Definitions(p.Files) && s.Name != "" {
		var d *Definition
		if d, err = p.Definitions.Definition(ctx, p.Config.MultusNamespace, s.Namespace, s.Name); err != nil {
			return nil, fmt.Errorf("clusterNetwork %q: %w", ref, err)
		}
		return clusterOf(d), nil
	}
	if notDefined != nil && !errors.Is(notDefined, ErrNoDefinition) {
		return nil, fmt.Errorf("clusterNetwork %q: %w", ref, notDefined)
	}
	return nil, network.Again.Errorf("%w: clusterNetwork %q is the name of no network in %s or %s (yet), meta-plugins' left out%s",
		ErrNoCluster, ref, p.Config.ConfDir, p.Config.ClusterConfDir, unreadable(folder.broken))
}

func clusterOf(d *Definition) *planned {
	return &planned{
		Attachment: network.Attachment{List: *d.List, Reference: d.Reference, Source: d.Source},
		want:       Want{Who: fmt.Sprintf("clusterNetwork %q", d.Reference), Resource: d.Resource},
	}
}

// unreadable adds the files that could not be read, should the name be theirs.
func unreadable(broken []error) string {
	if len(broken) == 0 {
		return ""
	}
	return "; files there that cannot be read: " + errors.Join(broken...).Error()
}
