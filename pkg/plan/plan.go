package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Definition is one network's configuration and where it came from.
type Definition struct {
	Reference string // namespace/name, or name for a shared one
	Source    string // file or object, for messages
	List      *network.List
}

// Definitions finds networks by name.
type Definitions interface {
	// Definition returns the network `name` for a pod of podNamespace.
	// namespace is "" when the pod's author named none. Errors say where was
	// looked and what to do.
	Definition(ctx context.Context, podNamespace, namespace, name string) (*Definition, error)
}

// Pod is what is known of the pod.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	// Annotations of the pod.
	Annotations map[string]string
}

// String names the pod in messages.
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Planner makes plans for one configuration.
type Planner struct {
	Config      *network.Config
	Definitions Definitions
	Files       *Dir // the node's own networks
	Warn        func(msg string)
}

// Secondaries returns the networks that a pod gets besides the cluster
// network, in the order in which they are attached: the configuration's
// further delegates, its default networks, then the annotation's. `inUse`
// are the interfaces that the pod has already.
func (p *Planner) Secondaries(ctx context.Context, pod Pod, args [][2]string, inUse []string) ([]network.Attachment, error) {
	var out []network.Attachment
	for i := 1; i < len(p.Config.Delegates); i++ {
		a, err := p.inline(i)
		if err != nil {
			return nil, err
		}
		out = append(out, *a)
	}
	defaults, err := p.defaults(ctx, pod)
	if err != nil {
		return nil, err
	}
	out = append(out, defaults...)
	selected, err := p.selected(ctx, pod)
	if err != nil {
		return nil, err
	}
	out = append(out, selected...)
	return named(out, podArgs(args), inUse)
}

// Wants reports whether the pod gets more than the cluster network, as far
// as can be told without resolving a name.
func (p *Planner) Wants(pod Pod) bool {
	return len(p.Config.Delegates) > 1 ||
		(len(p.Config.DefaultNetworks) > 0 && !p.exempt(pod)) ||
		strings.TrimSpace(pod.Annotations[network.NetworksAnnotation]) != ""
}

func named(list []network.Attachment, args [][2]string, inUse []string) ([]network.Attachment, error) {
	asked := make([]string, len(list))
	for i := range list {
		asked[i] = list[i].IfName
	}
	names, err := network.GenerateNames(asked, inUse)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].IfName, list[i].Args = names[i], args
	}
	return list, nil
}

// podArgs keeps what identifies the pod. The rest of the runtime's CNI_ARGS
// (an address, a MAC) is about the cluster network's interface.
func podArgs(args [][2]string) [][2]string {
	return slices.DeleteFunc(slices.Clone(args), func(kv [2]string) bool {
		return kv[0] != "IgnoreUnknown" && !strings.HasPrefix(kv[0], "K8S_")
	})
}

// inline returns one of the configuration's own delegates.
func (p *Planner) inline(i int) (*network.Attachment, error) {
	source := fmt.Sprintf("delegates[%d] of multiplexer's configuration", i)
	list, err := network.ParseList(source, p.Config.Name, p.Config.Delegates[i])
	if err != nil {
		return nil, err
	}
	if err = list.Validate(source); err != nil {
		return nil, err
	}
	return &network.Attachment{List: *list, Reference: list.Name, Source: source}, nil
}

func (p *Planner) exempt(pod Pod) bool {
	return slices.Contains(p.Config.SystemNamespaces, pod.Namespace)
}

func (p *Planner) defaults(ctx context.Context, pod Pod) ([]network.Attachment, error) {
	if p.exempt(pod) {
		return nil, nil
	}
	return p.DefaultNetworks(ctx)
}

// DefaultNetworks resolves the networks that the configuration gives to every
// pod. They are the administrator's choice: isolation does not apply.
func (p *Planner) DefaultNetworks(ctx context.Context) ([]network.Attachment, error) {
	var out []network.Attachment
	for i, ref := range p.Config.DefaultNetworks {
		s, err := ConfigReference(ref)
		if err != nil {
			return nil, network.Invalid.Errorf("defaultNetworks[%d]: %w", i, err)
		}
		d, err := p.find(ctx, p.Config.MultusNamespace, s.Namespace, s.Name)
		if err != nil {
			return nil, fmt.Errorf("defaultNetworks[%d] %q: %w", i, ref, err)
		}
		out = append(out, network.Attachment{List: *d.List, Reference: d.Reference, Source: d.Source, IfName: s.Interface})
	}
	return out, nil
}

func (p *Planner) selected(ctx context.Context, pod Pod) ([]network.Attachment, error) {
	selections, err := network.ParseSelections(network.NetworksAnnotation, pod.Annotations[network.NetworksAnnotation])
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", pod, err)
	}
	var out []network.Attachment
	for i, s := range selections {
		a, serr := p.selection(ctx, pod, pod.Namespace, s)
		if serr != nil {
			return nil, fmt.Errorf("pod %s: annotation %s, network %d %q: %w", pod, network.NetworksAnnotation, i+1, s.Name, serr)
		}
		out = append(out, *a)
	}
	return out, nil
}

// selection resolves one element of an annotation. home is the namespace of a
// name without one.
func (p *Planner) selection(ctx context.Context, pod Pod, home string, s network.Selection) (*network.Attachment, error) {
	for _, w := range s.Warnings {
		p.Warn("pod " + pod.String() + ": network " + s.Name + ": " + w)
	}
	if s.DefaultRoute != nil && p.Config.Routing.Mode == network.RoutingPlain {
		p.Warn("pod " + pod.String() + ": network " + s.Name + ": \"default-route\" has no effect in routing mode plain")
	}
	namespace := s.Namespace
	if namespace == "" && home != pod.Namespace {
		namespace = home
	}
	if iso := p.isolation(); namespace != "" && !iso.Allows(pod.Namespace, namespace) {
		return nil, network.Invalid.Errorf("namespace %q is not open to pods of namespace %q: define the network in the pod's own namespace and write \"%s/%s\", or add %q to globalNamespaces (now %q)",
			namespace, pod.Namespace, pod.Namespace, s.Name, namespace, strings.Join(iso.Global, ","))
	}
	d, err := p.find(ctx, pod.Namespace, namespace, s.Name)
	if err != nil {
		return nil, err
	}
	a := &network.Attachment{List: *d.List, Reference: d.Reference, Source: d.Source, IfName: s.Interface, DefaultRoute: s.DefaultRoute}
	if err = a.SetArgs(d.Source, s.CNIArgs); err != nil {
		return nil, err
	}
	return a, setCapabilities(a, s)
}

func (p *Planner) isolation() network.Isolation {
	return network.Isolation{On: p.Config.NamespaceIsolation, Global: p.Config.GlobalNamespaces}
}

func (p *Planner) find(ctx context.Context, podNamespace, namespace, name string) (*Definition, error) {
	return p.Definitions.Definition(ctx, podNamespace, namespace, name)
}

// ConfigReference reads "[namespace/]name" as the configuration writes it.
func ConfigReference(ref string) (network.Selection, error) {
	quoted, err := json.Marshal(map[string]string{"name": ref})
	if namespace, name, ok := strings.Cut(ref, "/"); ok {
		quoted, err = json.Marshal(map[string]string{"name": name, "namespace": namespace})
	}
	if err != nil {
		return network.Selection{}, err
	}
	selections, err := network.ParseSelections(strconv.Quote(ref), "["+string(quoted)+"]")
	if err != nil {
		return network.Selection{}, err
	}
	return selections[0], nil
}
