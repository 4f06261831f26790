package kubelettest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Get is whether a kubelet has the method of that name.
type Get int

// Kubelets of different age.
const (
	GetServed        Get = iota // since 1.34
	GetGateOff                  // since 1.27: only with a feature gate
	GetUnimplemented            // before
)

// SetGet makes the kubelet younger or older, from the next request on.
func (k *Kubelet) SetGet(get Get) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.get = get
}

type service struct {
	podresources.UnimplementedPodResourcesListerServer
	kubelet *Kubelet
}

// Get answers for the pod that has the name now.
func (s *service) Get(ctx context.Context, request *podresources.GetPodResourcesRequest) (*podresources.GetPodResourcesResponse, error) {
	s.kubelet.mu.Lock()
	defer s.kubelet.mu.Unlock()
	switch s.kubelet.get {
	case GetUnimplemented:
		return s.UnimplementedPodResourcesListerServer.Get(ctx, request)
	case GetGateOff:
		return nil, status.Error(codes.Unknown, "PodResources API Get method disabled")
	}
	for _, p := range s.kubelet.pods {
		if p.is(request.GetPodNamespace(), request.GetPodName()) && !p.nameless && !p.earlier {
			return &podresources.GetPodResourcesResponse{PodResources: s.kubelet.resources(p)}, nil
		}
	}
	return nil, fmt.Errorf("pod %s in namespace %s not found", request.GetPodName(), request.GetPodNamespace())
}

// List answers for all pods, in any order.
func (s *service) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	s.kubelet.mu.Lock()
	defer s.kubelet.mu.Unlock()
	answer := &podresources.ListPodResourcesResponse{}
	for _, i := range rand.Perm(len(s.kubelet.pods)) {
		answer.PodResources = append(answer.PodResources, s.kubelet.resources(s.kubelet.pods[i]))
	}
	if s.kubelet.padding > 0 {
		answer.PodResources = append(answer.PodResources, &podresources.PodResources{
			Namespace: "kubelettest", Name: strings.Repeat("x", s.kubelet.padding),
		})
	}
	return answer, nil
}

// GetAllocatableResources answers with what is advertised. A kubelet without
// Get has it not either.
func (s *service) GetAllocatableResources(ctx context.Context, request *podresources.AllocatableResourcesRequest) (*podresources.AllocatableResourcesResponse, error) {
	s.kubelet.mu.Lock()
	defer s.kubelet.mu.Unlock()
	if s.kubelet.get == GetUnimplemented {
		return s.UnimplementedPodResourcesListerServer.GetAllocatableResources(ctx, request)
	}
	return &podresources.AllocatableResourcesResponse{Devices: entries(s.kubelet.offered), CpuIds: []int64{0, 1}}, nil
}

// resources are the pod's devices, between other things that kubelet tells.
func (k *Kubelet) resources(p *pod) *podresources.PodResources {
	of := &podresources.PodResources{Namespace: p.namespace, Name: p.name, CpuIds: []int64{0, 1}}
	for i, c := range p.containers {
		of.Containers = append(of.Containers, &podresources.ContainerResources{
			Name:    c.Name,
			Devices: entries(c.Devices),
			CpuIds:  []int64{int64(i)},
			Memory:  []*podresources.ContainerMemory{{MemoryType: "hugepages-2Mi", Size: 1 << 21}},
			DynamicResources: []*podresources.DynamicResource{{ClaimName: "claim", ClaimNamespace: p.namespace,
				ClaimResources: []*podresources.ClaimResource{{DriverName: "dra.example.com", PoolName: "pool", DeviceName: "0000-00-01-0"}}}},
		})
	}
	return of
}

// entries are one for each device and NUMA node, in any order.
func entries(devices []Device) []*podresources.ContainerDevices {
	var all []*podresources.ContainerDevices
	for _, d := range devices {
		if len(d.NUMA) == 0 {
			all = append(all, &podresources.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}})
		}
		for _, node := range d.NUMA {
			all = append(all, &podresources.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID},
				Topology: &podresources.TopologyInfo{Nodes: []*podresources.NUMANode{{ID: node}}}})
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
