package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Answer answers one request of the plugin (agentapi.Server.Answer).
func (a *Agent) Answer(ctx context.Context, request *agentapi.Request) (known *agentapi.Known, err error) {
	done := a.metrics.request(request.Verb)
	defer func() { done(err) }()
	if err = validPod(request); err != nil {
		return nil, err
	}
	switch request.Verb {
	case agentapi.VerbPlan:
		return a.plan(ctx, request)
	case agentapi.VerbPublish:
		return &agentapi.Known{}, a.publisher.now(ctx, request.Container)
	case agentapi.VerbFailed:
		return &agentapi.Known{}, a.failed(request)
	}
	return nil, network.Unsupported.Errorf("request %q is not known to this agent: upgrade the agent", request.Verb)
}

// validPod refuses names that are none, before they become part of a path of
// the API.
func validPod(request *agentapi.Request) error {
	if err := network.ValidateNamespace("pod.namespace", request.Pod.Namespace); err != nil {
		return err
	}
	return network.ValidateObjectName("pod.name", request.Pod.Name)
}

// plan gathers what a plan for the pod needs.
func (a *Agent) plan(ctx context.Context, request *agentapi.Request) (*agentapi.Known, error) {
	a.word.learn(request.Networks)
	facts, err := a.facts()
	if err != nil {
		return nil, err
	}
	known := &agentapi.Known{Facts: facts, Publish: a.Publish != PublishOff}
	pod := request.Pod
	if pod.Annotations == nil {
		found, podErr := measured(a, request.Verb, "pod", func() (*k8sclient.Pod, error) { return a.cluster.Pod(ctx, pod.Namespace, pod.Name, pod.UID) })
		if podErr != nil {
			return nil, podErr
		}
		known.Annotations, pod.Annotations = found.Annotations, found.Annotations
	}
	networks, own := pod.Annotations[network.NetworksAnnotation]
	if !own && request.NamespaceDefaults {
		if known.NamespaceNetworks, err = a.cluster.NamespaceNetworks(pod.Namespace); err != nil {
			return nil, err
		}
		networks = known.NamespaceNetworks
	}
	// What is wrong with an annotation the plugin says itself.
	selections, _ := network.ParseSelections(network.NetworksAnnotation, networks)
	defaults, _ := network.ParseSelections(network.DefaultNetworkAnnotation, pod.Annotations[network.DefaultNetworkAnnotation])
	known.Definitions, err = measured(a, request.Verb, "definitions", func() ([]agentapi.Definition, error) {
		return a.definitions(ctx, request.Networks, references(selections, pod.Namespace), references(defaults, request.Home))
	})
	if err != nil || !needsDevices(known.Definitions, selections, defaults) {
		return known, err
	}
	known.Devices, err = measured(a, request.Verb, "devices", func() ([]agentapi.Device, error) { return a.devices(ctx, pod) })
	return known, err
}

func references(selections []network.Selection, home string) []agentapi.Reference {
	var out []agentapi.Reference
	for _, s := range selections {
		out = append(out, agentapi.Reference{Namespace: cmp.Or(s.Namespace, home), Name: s.Name})
	}
	return out
}

// definitions finds the networks that are named, each once. Those of the
// plugin's configuration are there for every pod and may be the names of
// files: the API server is never asked for one that is not in the cache.
func (a *Agent) definitions(ctx context.Context, configured []agentapi.Reference, asked ...[]agentapi.Reference) ([]agentapi.Definition, error) {
	var out []agentapi.Definition
	var seen []agentapi.Reference
	all := slices.Concat(slices.Concat(asked...), configured)
	for i, reference := range all {
		if slices.Contains(seen, reference) {
			continue
		}
		seen = append(seen, reference)
		find := a.cluster.Definition
		if i >= len(all)-len(configured) {
			find = a.cluster.CachedDefinition
		}
		found, err := find(ctx, reference.Namespace, reference.Name)
		switch {
		case errors.Is(err, k8sclient.ErrNoDefinition):
		case err != nil:
			return nil, err
		default:
			out = append(out, agentapi.Definition{Reference: reference, Config: found.Config, ResourceName: found.ResourceName})
		}
	}
	return out, nil
}

// needsDevices reports whether a network of the pod has to be paired with a
// device of its own.
func needsDevices(definitions []agentapi.Definition, selections ...[]network.Selection) bool {
	return slices.ContainsFunc(definitions, func(d agentapi.Definition) bool { return d.ResourceName != "" }) ||
		slices.ContainsFunc(slices.Concat(selections...), func(s network.Selection) bool {
			_, chosen, err := s.ChosenDevice()
			return chosen && err == nil
		})
}

func (a *Agent) devices(ctx context.Context, pod agentapi.Pod) ([]agentapi.Device, error) {
	found, err := a.kubelet.Devices(ctx, pod.Namespace, pod.Name, pod.UID)
	if err != nil {
		return nil, fmt.Errorf("devices of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	devices := []agentapi.Device{}
	for _, d := range found {
		devices = append(devices, agentapi.Device(d))
	}
	return devices, nil
}

// failed writes an event about an ADD that failed.
func (a *Agent) failed(request *agentapi.Request) error {
	if request.Failure == nil {
		return network.Invalid.Errorf("request %q without a failure", request.Verb)
	}
	if a.Events != EventsNone {
		pod := &k8sclient.Pod{Namespace: request.Pod.Namespace, Name: request.Pod.Name, UID: request.Pod.UID}
		a.cluster.Event(pod, true, request.Failure.Reason, request.Failure.Text)
	}
	return nil
}
