package explain

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

// plan says what the pod would get if its ADD ran now, or why that would fail:
// the plugin's own planner, with the agent's own answer.
func (q *inquiry) plan(ctx context.Context) {
	pod := plan.Pod{Namespace: q.namespace, Name: q.name, UID: q.UID, Annotations: q.annotations}
	if q.pod != nil && q.pod.Static {
		pod.UID = "" // the agent takes any
	}
	files := plan.NewDir(q.Config.ConfDir, network.Isolation{On: q.Config.NamespaceIsolation, Global: q.Config.GlobalNamespaces})
	p := &plan.Planner{Config: q.Config, Definitions: files, Files: files}
	out := &Planned{Networks: []Network{}}
	p.Warn = func(msg string) { out.Warnings = append(out.Warnings, msg) }
	if q.Ask != nil {
		known, err := q.askAgent(ctx, &pod)
		if err != nil {
			q.unplanned(err)
			return
		}
		given := &answer{known: known, files: files}
		p.Definitions, p.Devices = given, given.devices
	} else if q.annotations == nil {
		q.NotAsked = append(q.NotAsked, q.WithoutAgent)
		return
	}
	q.Planned = out
	list, err := attachments(ctx, p, pod)
	if err != nil {
		out.fail(err, q.remedyOf(err))
	}
	annotations := maps.Clone(pod.Annotations)
	if _, own := annotations[network.NetworksAnnotation]; !own && pod.NamespaceNetworks != "" {
		annotations = map[string]string{network.NetworksAnnotation: pod.NamespaceNetworks}
	}
	if err != nil { // the list is not whole: it ends before the annotation's networks
		annotations = map[string]string{network.DefaultNetworkAnnotation: pod.Annotations[network.DefaultNetworkAnnotation]}
	}
	chained := len(list) > 0 && !list[0].Cluster
	whys := reasons(len(list), annotations, chained)
	for i := range list {
		n := planned(&list[i], whys[i])
		n.Device = plannedDevice(&list[i], whys[i].choice)
		out.Networks = append(out.Networks, n)
	}
}

// unplanned is for an agent that gave no answer. Whoever does not know the
// pod is asked no further.
func (q *inquiry) unplanned(err error) {
	known := q.pod != nil || len(q.journals) > 0
	if known {
		q.Planned = &Planned{Networks: []Network{}}
		q.Planned.fail(err, q.remedyOf(err))
		return
	}
	q.NotAsked = append(q.NotAsked, err.Error())
}

func (p *Planned) fail(err error, remedy string) {
	p.Error, p.Remedy = err.Error(), remedy
	if p.Phase, _ = failure(p.Error); p.Phase == phaseAttach { // nothing was attached
		p.Phase = phaseResolve
	}
}

// askAgent asks as the plugin does. What the agent adds is told as asked for.
func (q *inquiry) askAgent(ctx context.Context, pod *plan.Pod) (*agentapi.Known, error) {
	var own map[string]string
	if pod.Annotations != nil {
		own = maps.Clone(pod.Annotations)
		maps.DeleteFunc(own, func(key, _ string) bool {
			return key != network.NetworksAnnotation && key != network.DefaultNetworkAnnotation
		})
	}
	known, err := q.Ask(ctx, agentapi.Request{
		Verb: agentapi.VerbPlan, Pod: agentapi.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Annotations: own},
		Networks: references(q.Config), Home: q.Config.MultusNamespace, NamespaceDefaults: q.Config.NamespaceDefaults,
	})
	if err != nil {
		return nil, err
	}
	if pod.Annotations == nil {
		pod.Annotations = known.Annotations
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		q.annotations = pod.Annotations
		q.tellAsked(pod.Annotations, "the agent")
	}
	if pod.NamespaceNetworks = known.NamespaceNetworks; pod.NamespaceNetworks != "" {
		q.Asked = append(q.Asked, Asked{network.NetworksAnnotation, pod.NamespaceNetworks, "namespace " + q.namespace})
	}
	return known, nil
}

// attachments are the pod's, as ADD would make them.
func attachments(ctx context.Context, p *plan.Planner, pod plan.Pod) ([]network.Attachment, error) {
	const ifname = "eth0" // what every runtime calls it
	var out []network.Attachment
	cluster, err := p.Cluster(ctx, pod, nil, ifname)
	switch {
	case errors.Is(err, plan.ErrChained): // the runtime attached it
	case err != nil:
		return nil, err
	default:
		out = append(out, *cluster)
	}
	others, err := p.Secondaries(ctx, pod, nil, []string{ifname})
	return append(out, others...), err
}

// references are the networks that the configuration names, as the plugin
// names them to the agent.
func references(config *network.Config) []agentapi.Reference {
	var out []agentapi.Reference
	for _, ref := range append([]string{config.ClusterNetwork}, config.DefaultNetworks...) {
		if ref == "" || filepath.IsAbs(ref) {
			continue
		}
		if s, err := plan.ConfigReference(ref); err == nil {
			out = append(out, agentapi.Reference{Namespace: cmp.Or(s.Namespace, config.MultusNamespace), Name: s.Name})
		}
	}
	return out
}

// answer are the agent's definitions (plan.Definitions).
type answer struct {
	known *agentapi.Known
	files *plan.Dir
}

// devices are those that the agent says kubelet gave the pod; nil when it does
// not say.
func (a *answer) devices() []plan.Device {
	if a.known.Devices == nil {
		return nil
	}
	out := []plan.Device{}
	for _, d := range a.known.Devices {
		out = append(out, plan.Device(d))
	}
	return out
}

// Definition implements plan.Definitions.
func (a *answer) Definition(ctx context.Context, podNamespace, namespace, name string) (*plan.Definition, error) {
	reference := agentapi.Reference{Namespace: cmp.Or(namespace, podNamespace), Name: name}
	i := slices.IndexFunc(a.known.Definitions, func(d agentapi.Definition) bool { return d.Reference == reference })
	if i < 0 {
		return nil, plan.NoDefinition("no NetworkAttachmentDefinition %s: create it, or correct the name that is asked for", reference)
	}
	d := &a.known.Definitions[i]
	found := &plan.Definition{Source: "NetworkAttachmentDefinition " + d.String()}
	var err error
	if strings.TrimSpace(d.Config) == "" {
		if found, err = a.files.Definition(ctx, d.Namespace, "", d.Name); err != nil {
			return nil, fmt.Errorf("%s has no spec.config: %w", "NetworkAttachmentDefinition "+d.String(), err)
		}
	} else {
		found.List, err = network.ParseList(found.Source, d.Name, []byte(d.Config))
		if err == nil {
			err = found.List.Validate(found.Source)
		}
	}
	if err != nil {
		return nil, err
	}
	found.Reference, found.Resource = reference.String(), d.ResourceName
	return found, nil
}

// remedyOf says what to do about an error of a kind; its text says the rest.
func (q *inquiry) remedyOf(err error) string {
	switch {
	case errors.Is(err, plan.ErrNoDefinition) && q.hidden(q.Config.ConfDir) && strings.Contains(err.Error(), q.Config.ConfDir):
		return q.Config.ConfDir + " is not mounted here: the file may be on the node; run multiplexerd explain there"
	case errors.Is(err, plan.ErrNoDefinition) && q.Ask == nil:
		return "add the file to " + q.Config.ConfDir + ", or correct the annotation; the pod's next try finds it"
	case errors.Is(err, plan.ErrNoDefinition):
		return "create the definition, or correct the annotation; the pod's next try finds it"
	case errors.Is(err, network.Again):
		return "nothing at the pod: kubelet tries again; multiplexerd doctor says what is wrong with the node"
	case errors.Is(err, network.Invalid), errors.Is(err, network.Malformed), errors.Is(err, network.Unsupported):
		return "correct what the text names: the definition, the annotation or the configuration"
	}
	return "see docs/troubleshooting.md for the text"
}
