package kubelet

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pluginService answers kubelet through one door.
type pluginService struct {
	deviceplugin.UnimplementedDevicePluginServer
	plugin  *DevicePlugin
	how     Registered      // how kubelet comes to this door
	closing <-chan struct{} // closed when the door closes
}

// GetDevicePluginOptions says which calls are of use.
func (s *pluginService) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return s.plugin.options(), nil
}

func (p *DevicePlugin) options() *deviceplugin.DevicePluginOptions {
	return &deviceplugin.DevicePluginOptions{GetPreferredAllocationAvailable: p.Prefer != nil}
}

// ListAndWatch sends the list, and each one that replaces it. Lists that come
// faster than kubelet reads are left out but for the last.
func (s *pluginService) ListAndWatch(_ *deviceplugin.Empty, stream grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	s.plugin.stream(s.how, 1)
	defer s.plugin.stream(s.how, -1)
	var sent []*deviceplugin.Device
	for first := true; ; {
		list, offered, changed := s.plugin.offer()
		if offered && (first || !sameDevices(sent, list)) {
			if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: list}); err != nil {
				return err
			}
			first, sent = false, list
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-s.closing:
			return status.Error(codes.Unavailable, "the device plugin ends or has a new socket")
		}
	}
}

// Allocate answers for each container.
func (s *pluginService) Allocate(ctx context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	all := &deviceplugin.AllocateResponse{}
	for _, container := range request.GetContainerRequests() {
		answer, err := s.plugin.Allocate(ctx, container.GetDevicesIds())
		if err != nil {
			return nil, s.refusal(err)
		}
		all.ContainerResponses = append(all.ContainerResponses, answer)
	}
	return all, nil
}

// refusal is what kubelet writes into the status of the pod that it fails.
func (s *pluginService) refusal(err error) error {
	var kind network.Kind
	errors.As(err, &kind)
	switch kind {
	case network.Invalid, network.Malformed, network.Unsupported:
		return status.Errorf(codes.InvalidArgument, "resource %s: %v", s.plugin.Resource, err)
	case network.Unknown, network.Missing:
		return status.Errorf(codes.NotFound, "resource %s: %v", s.plugin.Resource, err)
	case network.Again:
		return status.Errorf(codes.Unavailable, "resource %s: %v; a later try may succeed, but kubelet makes none for this pod: "+
			"let its controller make another, or delete the pod and create it again", s.plugin.Resource, err)
	case network.IO:
		return status.Errorf(codes.Internal, "resource %s: %v", s.plugin.Resource, err)
	default:
		return status.Errorf(codes.Unknown, "resource %s: %v", s.plugin.Resource, err)
	}
}

// GetPreferredAllocation answers for each container. Kubelet fails the pod on
// an error, which a mere preference is not worth: then it chooses alone.
func (s *pluginService) GetPreferredAllocation(_ context.Context, request *deviceplugin.PreferredAllocationRequest) (*deviceplugin.PreferredAllocationResponse, error) {
	if s.plugin.Prefer == nil {
		return nil, status.Errorf(codes.Unimplemented, "resource %s has no preferences: kubelet was told so", s.plugin.Resource)
	}
	all := &deviceplugin.PreferredAllocationResponse{}
	for _, container := range request.GetContainerRequests() {
		ids, err := s.plugin.Prefer(container.GetAvailableDeviceIDs(), container.GetMustIncludeDeviceIDs(), int(container.GetAllocationSize()))
		if err != nil {
			s.plugin.Log.Warn("no devices are preferred, kubelet chooses", "resource", s.plugin.Resource,
				"number", container.GetAllocationSize(), "error", err.Error())
			ids = nil
		}
		all.ContainerResponses = append(all.ContainerResponses, &deviceplugin.ContainerPreferredAllocationResponse{DeviceIDs: ids})
	}
	return all, nil
}

// PreStartContainer does nothing: a device is ready when it is allocated.
func (s *pluginService) PreStartContainer(context.Context, *deviceplugin.PreStartContainerRequest) (*deviceplugin.PreStartContainerResponse, error) {
	return &deviceplugin.PreStartContainerResponse{}, nil
}
