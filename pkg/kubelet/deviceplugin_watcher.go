package kubelet

import (
	"context"

	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// watcherService introduces the plugin to kubelet's plugin watcher.
type watcherService struct {
	registration.UnimplementedRegistrationServer
	plugin *DevicePlugin
}

// GetInfo says who this is. The endpoint is left out: kubelet then takes the
// socket that it found, under the name that its directory has for it.
func (s *watcherService) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	s.plugin.asked()
	return &registration.PluginInfo{
		Type:              registration.DevicePlugin,
		Name:              s.plugin.Resource,
		SupportedVersions: []string{deviceplugin.Version},
	}, nil
}

// NotifyRegistrationStatus hears what came of it. After a refusal kubelet
// tries again by itself, each time later, every two minutes in the end.
func (s *watcherService) NotifyRegistrationStatus(_ context.Context, outcome *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if outcome.GetPluginRegistered() {
		s.plugin.registered(ByWatcher)
	} else {
		s.plugin.failed(network.Again.Errorf("kubelet's plugin watcher refuses resource %s and will try again: %s", s.plugin.Resource, outcome.GetError()))
	}
	return &registration.RegistrationStatusResponse{}, nil
}
