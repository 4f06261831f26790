package multiplexer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// fromAgent is what the node's agent knows of the pod, and the definitions
// that come from it. It is asked once at most, and by ADD alone: the other
// verbs, and pods that ask for nothing, go by its last word on disk.
type fromAgent struct {
	call  *call
	files *plan.Dir // networks of definitions without a configuration
	pod   *plan.Pod // whom to ask about; nil when nobody is to be asked

	asked bool
	known *agentapi.Known // nil until it answered
	down  error           // why it did not

	read   bool
	word   *agentapi.Copy // its last word; nil when there is none
	unread error          // why there is one that cannot be read
}

// complete adds to the pod what only the agent knows. It asks when the pod
// gets a network by the agent's word, so that a pod whose networks cannot be
// told fails before anything is attached.
func (f *fromAgent) complete(ctx context.Context, pod *plan.Pod) error {
	if pod.Name == "" {
		return nil // no pod of Kubernetes
	}
	f.pod = pod
	if pod.Annotations == nil {
		if err := f.ask(ctx); err != nil {
			return fmt.Errorf("the runtime did not deliver the pod's annotations: %w", err)
		}
		pod.Annotations = orEmpty(f.known.Annotations)
	}
	if err := f.namespaceNetworks(ctx, pod); err != nil {
		return err
	}
	if pod.Asks() {
		return f.ask(ctx)
	}
	if f.call.planner.Defaults(*pod) {
		if err := f.ask(ctx); err != nil && !f.lastWord().Knows(f.references()) {
			return fmt.Errorf("defaultNetworks: %w", err)
		}
	}
	return nil
}

// namespaceNetworks adds the networks of the pod's namespace, if that has
// any: the last word says so without asking. Where there is none yet, an
// agent that is down hinders no pod.
func (f *fromAgent) namespaceNetworks(ctx context.Context, pod *plan.Pod) error {
	if _, own := pod.Annotations[network.NetworksAnnotation]; own || !f.call.config.NamespaceDefaults {
		return nil
	}
	word := f.lastWord()
	if word != nil && !word.HasNetworks(pod.Namespace) {
		return nil
	}
	err := f.ask(ctx)
	switch {
	case err == nil:
		pod.NamespaceNetworks = f.known.NamespaceNetworks
	case word != nil:
		return fmt.Errorf("namespace %q has networks of its own: %w", pod.Namespace, err)
	case f.unread != nil:
		return fmt.Errorf("whether namespace %q has networks of its own is not known (%s): %w", pod.Namespace, f.unread.Error(), err)
	default:
		f.call.log.Warn("whether the pod's namespace has networks of its own is not known: no agent has run on this node yet", "error", err.Error())
	}
	return nil
}

// Definition implements plan.Definitions. A definition without spec.config is
// one of confDir by its name (NPWG 3.4.1).
func (f *fromAgent) Definition(ctx context.Context, podNamespace, namespace, name string) (*plan.Definition, error) {
	reference := agentapi.Reference{Namespace: cmp.Or(namespace, podNamespace), Name: name}
	definitions, err := f.definitions(ctx, reference)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(definitions, func(d agentapi.Definition) bool { return d.Reference == reference })
	if i < 0 {
		return nil, plan.NoDefinition("no NetworkAttachmentDefinition %s: create it, or correct the name that is asked for", reference)
	}
	found, err := f.parse(ctx, &definitions[i])
	if err != nil {
		return nil, err
	}
	found.Reference, found.Resource = reference.String(), definitions[i].ResourceName
	return found, nil
}

// definitions are the agent's, or those of its last word if that speaks of
// the network.
func (f *fromAgent) definitions(ctx context.Context, reference agentapi.Reference) ([]agentapi.Definition, error) {
	err := f.ask(ctx)
	if err == nil {
		return f.known.Definitions, nil
	}
	if word := f.lastWord(); word.Knows([]agentapi.Reference{reference}) {
		return word.Definitions, nil
	}
	return nil, err
}

// parse reads one definition's configuration. Whose it is was decided by
// where the definition is: its file may be its namespace's or a shared one.
func (f *fromAgent) parse(ctx context.Context, d *agentapi.Definition) (*plan.Definition, error) {
	source := "NetworkAttachmentDefinition " + d.String()
	if strings.TrimSpace(d.Config) == "" {
		found, err := f.files.Definition(ctx, d.Namespace, "", d.Name)
		if err != nil {
			return nil, fmt.Errorf("%s has no spec.config: %w", source, err)
		}
		return found, nil
	}
	list, err := network.ParseList(source, d.Name, []byte(d.Config))
	if err != nil {
		return nil, err
	}
	if err = list.Validate(source); err != nil {
		return nil, err
	}
	if list.Name != d.Name {
		f.call.log.Warn(source + ": its name and the name of its configuration, \"" + list.Name + "\", differ")
	}
	return &plan.Definition{Source: source, List: list}, nil
}

// ask sends the pod's annotations and the configuration's networks.
func (f *fromAgent) ask(ctx context.Context) error {
	if f.asked || f.pod == nil {
		return f.unknown()
	}
	f.asked = true
	f.known, f.down = agentapi.Ask(ctx, f.call.config.AgentSocket, agentapi.Request{
		Verb: agentapi.VerbPlan, Pod: f.wirePod(), Networks: f.references(), Home: f.call.config.MultusNamespace,
		NamespaceDefaults: f.call.config.NamespaceDefaults,
	})
	return f.unknown()
}

// devices are those that the agent says kubelet gave the pod; nil when it did
// not answer, or does not say.
func (f *fromAgent) devices() []plan.Device {
	if f.known == nil || f.known.Devices == nil {
		return nil
	}
	out := []plan.Device{}
	for _, d := range f.known.Devices {
		out = append(out, plan.Device(d))
	}
	return out
}

// unknown is why the agent's answer is not there.
func (f *fromAgent) unknown() error {
	if f.known != nil || f.down != nil {
		return f.down
	}
	return network.Again.Errorf("%w: what the agent last wrote to %s does not say", errNotAsked, f.call.config.StateDir)
}

// errNotAsked says that a verb that asks no agent would need one.
var errNotAsked = errors.New("the agent is not asked")

// wirePod is the pod with those of its annotations that name networks.
func (f *fromAgent) wirePod() agentapi.Pod {
	pod := agentapi.Pod{Namespace: f.pod.Namespace, Name: f.pod.Name, UID: f.pod.UID, Annotations: maps.Clone(f.pod.Annotations)}
	maps.DeleteFunc(pod.Annotations, func(key, _ string) bool {
		return key != network.NetworksAnnotation && key != network.DefaultNetworkAnnotation
	})
	return pod
}

// references are the networks that the configuration names.
func (f *fromAgent) references() []agentapi.Reference {
	var out []agentapi.Reference
	config := f.call.config
	for _, ref := range append([]string{config.ClusterNetwork}, config.DefaultNetworks...) {
		if ref == "" || filepath.IsAbs(ref) {
			continue
		}
		s, err := plan.ConfigReference(ref)
		if err != nil {
			continue // the planner says what is wrong with it
		}
		out = append(out, agentapi.Reference{Namespace: cmp.Or(s.Namespace, config.MultusNamespace), Name: s.Name})
	}
	return out
}

// lastWord is what the agent left on disk.
func (f *fromAgent) lastWord() *agentapi.Copy {
	if !f.read {
		f.read = true
		if f.word, f.unread = agentapi.LoadCopy(f.call.config.StateDir); f.unread != nil {
			f.call.log.Warn("the agent's last word is left out", "error", f.unread.Error())
		}
	}
	return f.word
}

// facts are about the cluster, as the agent knows or last knew them.
func (f *fromAgent) facts() agentapi.Facts {
	if f == nil {
		return agentapi.Facts{}
	}
	if f.known != nil {
		return f.known.Facts
	}
	if word := f.lastWord(); word != nil {
		return word.Facts
	}
	return agentapi.Facts{}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
