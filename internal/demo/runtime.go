package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// confDir is where a container runtime looks for its network.
const confDir = etcCNI + "/net.d"

// containerRuntime calls CNI plugins as containerd does: with libcni, and with
// the first file by name.
type containerRuntime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
	file string // that list came from
}

func newContainerRuntime(node *nettest.Node, binDirs ...string) (*containerRuntime, error) {
	files, err := libcni.ConfFiles(confDir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", confDir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no network configuration: look into %s/net.d", confDir, examplesCNI)
	}
	r := &containerRuntime{file: files[0]}
	for _, file := range files[1:] {
		r.file = min(r.file, file)
	}
	if r.list, err = libcni.NetworkConfFromFile(r.file); err != nil {
		return nil, err
	}
	r.cni = libcni.NewCNIConfig(binDirs, &nodeExec{
		DefaultExec: invoke.DefaultExec{RawExec: &invoke.RawExec{}, PluginDecoder: version.PluginDecoder{}},
		node:        node,
	})
	return r, nil
}

// nodeExec runs plugins in the node's network namespace.
type nodeExec struct {
	invoke.DefaultExec
	node *nettest.Node
}

func (e *nodeExec) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) (out []byte, err error) {
	err = e.node.Do(func() error {
		out, err = e.DefaultExec.ExecPlugin(ctx, path, stdin, env)
		return err
	})
	return out, err
}

// sandbox is a pod as the runtime knows it.
type sandbox struct {
	*nettest.NS
	id, uid  string
	manifest *podManifest
}

func newSandbox(id string, manifest *podManifest) (*sandbox, error) {
	ns, err := quietNS(manifest.Metadata.Name + "-")
	if err != nil {
		return nil, err
	}
	return &sandbox{NS: ns, id: id, uid: rand.Text(), manifest: manifest}, nil
}

// conf is what containerd sends for a pod.
func (s *sandbox) conf() *libcni.RuntimeConf {
	meta := s.manifest.Metadata
	return &libcni.RuntimeConf{
		ContainerID: s.id, NetNS: s.Path(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", meta.Namespace}, {"K8S_POD_NAME", meta.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", s.id},
			{"K8S_POD_UID", s.uid},
		},
		CapabilityArgs: map[string]any{"io.kubernetes.cri.pod-annotations": meta.Annotations},
	}
}

func (r *containerRuntime) add(ctx context.Context, s *sandbox) (*current.Result, error) {
	result, err := r.cni.AddNetworkList(ctx, r.list, s.conf())
	if err != nil {
		return nil, fmt.Errorf("ADD of %s with %s: %w", s.manifest, filepath.Base(r.file), err)
	}
	return current.NewResultFromResult(result)
}

func (r *containerRuntime) check(ctx context.Context, s *sandbox) error {
	if err := r.cni.CheckNetworkList(ctx, r.list, s.conf()); err != nil {
		return fmt.Errorf("CHECK of %s: %w", s.manifest, err)
	}
	return nil
}

func (r *containerRuntime) del(ctx context.Context, s *sandbox) error {
	if err := r.cni.DelNetworkList(ctx, r.list, s.conf()); err != nil {
		return fmt.Errorf("DEL of %s: %w", s.manifest, err)
	}
	return nil
}
