package multiplexer

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// fromAgent are the definitions that the node's agent knows. It is asked
// once, when the first is needed: a pod that asks for nothing never waits
// for it.
type fromAgent struct {
	call  *call
	files *plan.Dir // networks of definitions without a configuration
	known *agentapi.Known
}

// Definition implements plan.Definitions. A definition without spec.config is
// one of confDir by its name (NPWG 3.4.1).
func (f *fromAgent) Definition(ctx context.Context, podNamespace, namespace, name string) (*plan.Definition, error) {
	if namespace == "" {
		namespace = podNamespace
	}
	if err := f.ask(ctx); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(f.known.Definitions, func(d agentapi.Definition) bool { return d.Namespace == namespace && d.Name == name })
	if i < 0 {
		return nil, network.Invalid.Errorf("no NetworkAttachmentDefinition %s/%s: create it, or correct the name that is asked for", namespace, name)
	}
	reference, source := namespace+"/"+name, fmt.Sprintf("NetworkAttachmentDefinition %s/%s", namespace, name)
	definition := f.known.Definitions[i]
	if strings.TrimSpace(definition.Config) == "" {
		found, err := f.files.Definition(ctx, podNamespace, namespace, name)
		if err != nil {
			return nil, fmt.Errorf("%s has no spec.config: %w", source, err)
		}
		found.Reference = reference
		return found, nil
	}
	list, err := network.ParseList(source, name, []byte(definition.Config))
	if err != nil {
		return nil, err
	}
	if err = list.Validate(source); err != nil {
		return nil, err
	}
	if list.Name != name {
		f.call.log.Warn(source + ": its name and the name of its configuration, \"" + list.Name + "\", differ")
	}
	return &plan.Definition{Reference: reference, Source: source, List: list}, nil
}

// ask sends the pod's annotations and the configuration's networks.
func (f *fromAgent) ask(ctx context.Context) error {
	if f.known != nil {
		return nil
	}
	config := f.call.config
	request := agentapi.Request{}
	if pod, err := f.call.pod(); err == nil {
		request.Pod = agentapi.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Annotations: pod.Annotations}
	}
	for _, ref := range append([]string{config.ClusterNetwork}, config.DefaultNetworks...) {
		if ref == "" || filepath.IsAbs(ref) {
			continue
		}
		s, err := plan.ConfigReference(ref)
		if err != nil {
			continue // the planner says what is wrong with it
		}
		request.Networks = append(request.Networks, agentapi.Reference{Namespace: cmp.Or(s.Namespace, config.MultusNamespace), Name: s.Name})
	}
	var err error
	f.known, err = agentapi.Ask(ctx, config.AgentSocket, request)
	return err
}
