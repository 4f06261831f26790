package kubelet

import (
	"context"

	"google.golang.org/grpc/codes"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Advertised returns the IDs of the devices that the node's device plugins
// advertise, by resource. Errors are as of Devices; Unsupported: kubelet is
// older than 1.23.
func (r *Resources) Advertised(ctx context.Context) (map[string][]string, error) {
	var answer *podresources.AllocatableResourcesResponse
	refused, err := r.call(ctx, func(kubelet podresources.PodResourcesListerClient) (failed error) {
		answer, failed = kubelet.GetAllocatableResources(ctx, &podresources.AllocatableResourcesRequest{})
		return failed
	})
	switch {
	case err != nil:
		return nil, err
	case refused.Code() == codes.Unimplemented:
		return nil, network.Unsupported.Errorf("kubelet at %s does not tell what device plugins advertise: that needs Kubernetes 1.23 or later", r.Socket)
	case refused != nil:
		return nil, network.Again.Errorf("kubelet at %s does not tell what device plugins advertise: %s: look into kubelet's log", r.Socket, refused.Message())
	}
	all := map[string][]string{}
	for _, entry := range answer.GetDevices() {
		all[entry.GetResourceName()] = append(all[entry.GetResourceName()], entry.GetDeviceIds()...)
	}
	return all, nil
}

// Holders returns which pod each device was given to, as namespace/name by
// the device's ID. IDs of different resources may be the same.
func (r *Resources) Holders(ctx context.Context) (map[string]string, error) {
	pods, err := r.pods(ctx)
	if err != nil {
		return nil, err
	}
	holders := map[string]string{}
	for _, pod := range pods {
		for _, d := range devicesOf(pod) {
			holders[d.ID] = pod.GetNamespace() + "/" + pod.GetName()
		}
	}
	return holders, nil
}
