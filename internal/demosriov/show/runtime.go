package show

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// confDir is where a container runtime looks for its network.
const confDir = "/etc/cni/net.d"

// containerRuntime calls multiplexer as containerd does: with libcni, and with
// the first file by name.
type containerRuntime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newContainerRuntime(bin, plugins string) (*containerRuntime, error) {
	list, err := libcni.NetworkConfFromFile(filepath.Join(confDir, "00-multiplexer.conflist"))
	if err != nil {
		return nil, err
	}
	return &containerRuntime{cni: libcni.NewCNIConfig([]string{filepath.Dir(bin), plugins}, nil), list: list}, nil
}

// conf is what containerd sends for a pod.
func (p *pod) conf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.name, NetNS: p.Path(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", podNamespace}, {"K8S_POD_NAME", p.name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.name}, {"K8S_POD_UID", rand.Text()},
		},
		CapabilityArgs: map[string]any{
			"io.kubernetes.cri.pod-annotations": map[string]string{network.NetworksAnnotation: p.networks},
		},
	}
}

func (r *containerRuntime) add(ctx context.Context, p *pod) (*current.Result, error) {
	result, err := r.cni.AddNetworkList(ctx, r.list, p.conf())
	if err != nil {
		return nil, fmt.Errorf("ADD of %s: %w", p, err)
	}
	return current.NewResultFromResult(result)
}

func (r *containerRuntime) check(ctx context.Context, p *pod) error {
	if err := r.cni.CheckNetworkList(ctx, r.list, p.conf()); err != nil {
		return fmt.Errorf("CHECK of %s: %w", p, err)
	}
	return nil
}

func (r *containerRuntime) del(ctx context.Context, p *pod) error {
	if err := r.cni.DelNetworkList(ctx, r.list, p.conf()); err != nil {
		return fmt.Errorf("DEL of %s: %w", p, err)
	}
	return nil
}
