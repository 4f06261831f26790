package kubelet

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// find returns what kubelet gave to a pod; nil is a pod that it does not know.
//
// Get is for one pod. Kubelet has it since 1.27, behind a feature gate that
// is on since 1.34; whether it does is remembered for the connection, which
// ends with the kubelet. What Get refuses, List is asked for, whatever the
// reason: Get says that a pod is "not found" (code Unknown) also when an
// earlier pod of that name was removed after this one was added, because
// kubelet then forgets the name (basicManager.RemovePod). List goes by UID.
func (r *Resources) find(ctx context.Context, namespace, name string) (*podresources.PodResources, error) {
	if connection := r.dials.Load(); connection == 0 || connection != r.noGet.Load() {
		pod, refused, err := r.get(ctx, namespace, name)
		if err != nil || pod != nil {
			return pod, err
		}
		if hasNoGet(refused) {
			r.noGet.Store(connection)
		}
	}
	return r.list(ctx, namespace, name)
}

// hasNoGet reports a kubelet without Get. For a gate that is off it has no
// code of its own, only this text.
func hasNoGet(refused *status.Status) bool {
	return refused.Code() == codes.Unimplemented ||
		refused.Code() == codes.Unknown && strings.Contains(refused.Message(), "Get method disabled")
}

func (r *Resources) get(ctx context.Context, namespace, name string) (*podresources.PodResources, *status.Status, error) {
	var answer *podresources.GetPodResourcesResponse
	refused, err := r.call(ctx, func(kubelet podresources.PodResourcesListerClient) (failed error) {
		answer, failed = kubelet.Get(ctx, &podresources.GetPodResourcesRequest{PodNamespace: namespace, PodName: name})
		return failed
	})
	return answer.GetPodResources(), refused, err
}

func (r *Resources) list(ctx context.Context, namespace, name string) (*podresources.PodResources, error) {
	pods, err := r.pods(ctx)
	if err != nil {
		return nil, err
	}
	var found *podresources.PodResources
	for _, pod := range pods {
		if pod.GetNamespace() != namespace || pod.GetName() != name {
			continue
		}
		if found != nil {
			// There is no UID in the answer, and a guess could attach a
			// device that an earlier pod still uses.
			return nil, network.Again.Errorf("kubelet at %s lists two pods %s/%s: wait until the earlier one has ended", r.Socket, namespace, name)
		}
		found = pod
	}
	return found, nil
}

// pods are all that kubelet has.
func (r *Resources) pods(ctx context.Context) ([]*podresources.PodResources, error) {
	var answer *podresources.ListPodResourcesResponse
	refused, err := r.call(ctx, func(kubelet podresources.PodResourcesListerClient) (failed error) {
		answer, failed = kubelet.List(ctx, &podresources.ListPodResourcesRequest{})
		return failed
	})
	switch {
	case err != nil:
		return nil, err
	case refused.Code() == codes.Unimplemented:
		return nil, network.Unsupported.Errorf("kubelet at %s does not know pod-resources v1: networks with devices need Kubernetes 1.20 or later", r.Socket)
	case refused != nil:
		return nil, network.Again.Errorf("kubelet at %s does not list its pods' devices: %s: look into kubelet's log", r.Socket, refused.Message())
	}
	return answer.GetPodResources(), nil
}
