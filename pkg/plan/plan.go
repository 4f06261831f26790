package plan

import (
	"context"
	"encoding/json"
	"errors"
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
	Resource  string // the resource that a device is needed of, or ""
	List      *network.List
}

// ErrNoDefinition says that a network that is asked for is defined nowhere.
var ErrNoDefinition = errors.New("no network of the name")

// NoDefinition is an ErrNoDefinition in words of its own, of kind Invalid.
func NoDefinition(format string, args ...any) error {
	return network.Invalid.Errorf("%w", noDefinition(fmt.Sprintf(format, args...)))
}

type noDefinition string

func (e noDefinition) Error() string        { return string(e) }
func (e noDefinition) Is(target error) bool { return target == ErrNoDefinition }

// ErrNeedsDevice says that a network needs a device, and that nobody knows
// which ones the pod has.
var ErrNeedsDevice = errors.New("needs a device")

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
	// Annotations of the pod; nil when the runtime did not deliver them.
	Annotations map[string]string
	// NamespaceNetworks are what the pod gets when it asks for nothing itself.
	NamespaceNetworks string
}

// String names the pod in messages.
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// networks are what the pod asks for: by its own annotation, also an empty
// one, or else by its namespace's. key names the annotation in messages.
func (p Pod) networks() (key, value string) {
	if own, ok := p.Annotations[network.NetworksAnnotation]; ok || p.NamespaceNetworks == "" {
		return network.NetworksAnnotation, own
	}
	return network.NetworksAnnotation + " of namespace " + p.Namespace, p.NamespaceNetworks
}

// Asks reports whether the pod itself, or its namespace, names a network.
func (p Pod) Asks() bool {
	_, value := p.networks()
	return strings.TrimSpace(value) != "" || network.ReplacesCluster(p.Annotations)
}

// Planner makes plans for one configuration.
type Planner struct {
	Config      *network.Config
	Definitions Definitions
	Files       *Dir // the node's own networks
	Warn        func(msg string)
	// Devices are those that kubelet gave the pod, in the order in which they
	// are paired with its networks; nil when nobody knows. They are asked for
	// when all networks are found, which may be what it takes to know them.
	Devices func() []Device

	// What a pod gets is found out once: Cluster and Secondaries share its
	// devices.
	cluster *planned
	others  []planned
	found   bool
}

// planned is an attachment, and the device that it needs.
type planned struct {
	network.Attachment
	want Want
}

// Secondaries returns the networks that a pod gets besides the cluster
// network, in the order in which they are attached: the configuration's
// further delegates, its default networks, then the annotation's. `inUse`
// are the interfaces that the pod has already.
func (p *Planner) Secondaries(ctx context.Context, pod Pod, args [][2]string, inUse []string) ([]network.Attachment, error) {
	if err := p.findOthers(ctx, pod); err != nil {
		return nil, err
	}
	if err := p.pair(pod); err != nil {
		return nil, err
	}
	var out []network.Attachment
	for i := range p.others {
		out = append(out, p.others[i].Attachment)
	}
	return named(out, podArgs(args), inUse)
}

// HasMore reports whether a pod gets more than the cluster network.
func (p *Planner) HasMore(ctx context.Context, pod Pod) (bool, error) {
	err := p.findOthers(ctx, pod)
	return len(p.others) > 0, err
}

// findOthers resolves what the pod gets besides the cluster network.
func (p *Planner) findOthers(ctx context.Context, pod Pod) error {
	if p.found {
		return nil
	}
	for i := 1; i < len(p.Config.Delegates); i++ {
		a, err := p.inline(i)
		if err != nil {
			return err
		}
		p.others = append(p.others, planned{Attachment: *a})
	}
	if p.Defaults(pod) {
		defaults, err := p.defaults(ctx)
		if err != nil {
			return err
		}
		p.others = append(p.others, defaults...)
	}
	selected, err := p.selected(ctx, pod)
	if err != nil {
		return err
	}
	p.others, p.found = append(p.others, selected...), true
	return nil
}

// pair gives the networks that need one a device of the pod. One ledger
// serves the cluster network and all others.
func (p *Planner) pair(pod Pod) error {
	networks := []*planned{}
	if p.cluster != nil {
		networks = append(networks, p.cluster)
	}
	for i := range p.others {
		networks = append(networks, &p.others[i])
	}
	var wants []Want
	needed := false
	for _, n := range networks {
		wants = append(wants, n.want)
		needed = needed || n.want.needs()
	}
	if !needed {
		return nil
	}
	var given []Device
	if p.Devices != nil {
		given = p.Devices()
	}
	if given == nil {
		return p.unknownDevices(pod, wants)
	}
	devices, err := Pair(pod.String(), wants, given)
	if err != nil {
		return err
	}
	for i, d := range devices {
		if d.ID == "" {
			continue
		}
		if err = networks[i].SetDevice(d.Resource, d.ID); err != nil {
			return err
		}
	}
	return nil
}

// unknownDevices says why no device can be handed out.
func (p *Planner) unknownDevices(pod Pod, wants []Want) error {
	who := wants[slices.IndexFunc(wants, Want.needs)].Who
	if p.Definitions == Definitions(p.Files) {
		return network.Invalid.Errorf("pod %s: %s %w, and which devices the pod has is known to the node's agent alone: set agentSocket in multiplexer's configuration, or take the device out", pod, who, ErrNeedsDevice)
	}
	return network.Again.Errorf("pod %s: %s %w, and the node's agent, which knows the pod's devices, does not answer", pod, who, ErrNeedsDevice)
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

// Defaults reports whether the pod gets the configuration's default networks.
func (p *Planner) Defaults(pod Pod) bool { return len(p.Config.DefaultNetworks) > 0 && !p.exempt(pod) }

// DefaultNetworks resolves the networks that the configuration gives to every
// pod. They are the administrator's choice: isolation does not apply.
func (p *Planner) DefaultNetworks(ctx context.Context) ([]network.Attachment, error) {
	defaults, err := p.defaults(ctx)
	var out []network.Attachment
	for i := range defaults {
		out = append(out, defaults[i].Attachment)
	}
	return out, err
}

func (p *Planner) defaults(ctx context.Context) ([]planned, error) {
	var out []planned
	for i, ref := range p.Config.DefaultNetworks {
		s, err := ConfigReference(ref)
		if err != nil {
			return nil, network.Invalid.Errorf("defaultNetworks[%d]: %w", i, err)
		}
		d, err := p.find(ctx, p.Config.MultusNamespace, s.Namespace, s.Name)
		if errors.Is(err, ErrNoDefinition) && p.Definitions != Definitions(p.Files) {
			// A name of the node's own configuration may be the node's own network.
			if own, fileErr := p.Files.Definition(ctx, p.Config.MultusNamespace, s.Namespace, s.Name); !errors.Is(fileErr, ErrNoDefinition) {
				d, err = own, fileErr
			}
		}
		if err != nil {
			return nil, fmt.Errorf("defaultNetworks[%d] %q: %w", i, ref, err)
		}
		who := fmt.Sprintf("network %q (defaultNetworks[%d])", d.Reference, i)
		out = append(out, planned{
			Attachment: network.Attachment{List: *d.List, Reference: d.Reference, Source: d.Source, IfName: s.Interface},
			want:       Want{Who: who, Resource: d.Resource},
		})
	}
	return out, nil
}

func (p *Planner) selected(ctx context.Context, pod Pod) ([]planned, error) {
	key, value := pod.networks()
	selections, err := network.ParseSelections(key, value)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", pod, err)
	}
	var out []planned
	for i, s := range selections {
		a, serr := p.selection(ctx, pod, pod.Namespace, s)
		if serr != nil {
			return nil, fmt.Errorf("pod %s: annotation %s, network %d %q: %w", pod, key, i+1, s.Name, serr)
		}
		a.want.Who = fmt.Sprintf("network %q (annotation %s, network %d)", a.Reference, key, i+1)
		out = append(out, *a)
	}
	return out, nil
}

// selection resolves one element of an annotation. home is the namespace of a
// name without one.
func (p *Planner) selection(ctx context.Context, pod Pod, home string, s network.Selection) (*planned, error) {
	for _, w := range s.Warnings {
		p.Warn("pod " + pod.String() + ": network " + s.Name + ": " + w)
	}
	if s.DefaultRoute != nil && p.Config.Routing.Mode == network.RoutingPlain {
		p.Warn("pod " + pod.String() + ": network " + s.Name + ": \"default-route\" has no effect in routing mode plain")
		s.DefaultRoute = nil // nor does network-status say that it had
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
	a := &planned{
		Attachment: network.Attachment{List: *d.List, Reference: d.Reference, Source: d.Source, IfName: s.Interface, DefaultRoute: s.DefaultRoute},
		want:       Want{Resource: d.Resource},
	}
	if a.want.Choice, _, err = s.ChosenDevice(); err != nil {
		return nil, err
	}
	if err = a.SetArgs(d.Source, s.CNIArgs); err != nil {
		return nil, err
	}
	return a, setCapabilities(&a.Attachment, s)
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
