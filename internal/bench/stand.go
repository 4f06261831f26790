package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const (
	cniVersion     = "1.1.0"
	annotations    = "io.kubernetes.cri.pod-annotations"
	mostNetworks   = 8 // secondaries that have a definition
	networksOfAPod = "k8s.v1.cni.cncf.io/networks"
	statusOfAPod   = "k8s.v1.cni.cncf.io/network-status"
)

// stand is the test stand: a node, networks to attach, and pods.
type stand struct {
	bin, plugins string // multiplexer, and the directory of the reference plugins
	dir          string // what is written, but for namespaces
	filesystem   string
	node         *nettest.Node
	networks     []*libcni.NetworkConfigList // the cluster network, then the secondaries
	ours         *libcni.NetworkConfigList   // in routing mode plain
	guarded      *libcni.NetworkConfigList   // in routing mode guard
	pods         []*pod
	kube         *kube // nil until a figure of the agent asks for it
}

// pod is a network namespace, a container's name, and who Kubernetes says
// that is.
type pod struct {
	*nettest.NS
	container, name, uid string
}

func newStand(parent, bin, plugins string) (_ *stand, err error) {
	s := &stand{bin: bin, plugins: plugins}
	if s.dir, err = os.MkdirTemp(parent, "multiplexer-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory for the state: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.filesystem, err = filesystem(s.dir); err != nil {
		return nil, err
	}
	if s.node, err = nettest.NewNode(); err != nil {
		return nil, fmt.Errorf("make a node: %w", err)
	}
	if err = s.define(); err != nil {
		return nil, err
	}
	if s.ours, err = libcni.ConfListFromBytes(s.configuration("cluster", "plain", "")); err != nil {
		return nil, err
	}
	s.guarded, err = libcni.ConfListFromBytes(s.configuration("cluster", "guard", ""))
	return s, err
}

func (s *stand) close() error {
	var failed []error
	if s.kube != nil {
		failed = append(failed, s.kube.close())
	}
	for _, p := range s.pods {
		failed = append(failed, p.Close())
	}
	if s.node != nil {
		failed = append(failed, s.node.Close())
	}
	return errors.Join(append(failed, os.RemoveAll(s.dir))...)
}

// pod returns the n-th pod, made when it is first asked for.
func (s *stand) pod(n int) (*pod, error) {
	for len(s.pods) <= n {
		ns, err := nettest.NewNS("pod-")
		if err != nil {
			return nil, fmt.Errorf("make a pod: %w", err)
		}
		container := "bench-" + ns.Name()
		s.pods = append(s.pods, &pod{NS: ns, container: container, name: container, uid: ns.Name()})
	}
	return s.pods[n], nil
}

// define writes the networks, each with a bridge and addresses of its own,
// where multiplexer finds them, and reads them back for the floor.
func (s *stand) define() error {
	definitions := filepath.Join(s.dir, "net.d")
	if err := os.Mkdir(definitions, 0o755); err != nil {
		return fmt.Errorf("make the directory of definitions: %w", err)
	}
	for i := range mostNetworks + 1 {
		name, file := fmt.Sprintf("bench%d", i), filepath.Join(definitions, fmt.Sprintf("bench%d.conflist", i))
		if i == 0 {
			name, file = "cluster", filepath.Join(s.dir, "cluster.conflist")
		}
		raw := fmt.Appendf(nil, `{"cniVersion":%q,"name":%q,"plugins":[{"type":"bridge","bridge":%q,"isGateway":%t,"isDefaultGateway":%t,
"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.%d.0.0/16"}]]}}]}`,
			cniVersion, name, "br-"+name, i == 0, i == 0, filepath.Join(s.dir, "host-local"), 200+i)
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			return fmt.Errorf("write a definition: %w", err)
		}
		list, err := libcni.ConfListFromBytes(raw)
		if err != nil {
			return fmt.Errorf("read a definition: %w", err)
		}
		s.networks = append(s.networks, list)
	}
	return nil
}

// configuration is multiplexer's own, as its installer would write it. An
// agent is asked if there is a socket.
func (s *stand) configuration(cluster, routing, socket string) []byte {
	return fmt.Appendf(nil, `{"cniVersion":%q,"name":"multiplexer","plugins":[{"type":%q,"clusterNetwork":%q,"confDir":%q,
"stateDir":%q,"agentSocket":%q,"routing":{"mode":%q},"capabilities":{%q:true}}]}`,
		cniVersion, filepath.Base(s.bin), filepath.Join(s.dir, cluster+".conflist"), filepath.Join(s.dir, "net.d"),
		s.state(), socket, routing, annotations)
}

// state is multiplexer's stateDir.
func (s *stand) state() string { return filepath.Join(s.dir, "state") }

// caller attaches a pod to a number of secondary networks and detaches it:
// by one call of multiplexer, or by one call of each network.
type caller struct {
	stand  *stand
	cni    *libcni.CNIConfig
	lists  []*libcni.NetworkConfigList
	asked  map[string]any // runtimeConfig
	wanted int            // addresses of the pod
}

// oursFor returns the caller that goes through multiplexer. exec may be nil.
func (s *stand) oursFor(secondaries int, exec invoke.Exec) caller {
	var names []string
	for _, list := range s.networks[1 : secondaries+1] {
		names = append(names, list.Name)
	}
	asked := map[string]any{annotations: map[string]string{networksOfAPod: strings.Join(names, ",")}}
	return caller{s, s.cni("ours", exec), []*libcni.NetworkConfigList{s.ours}, asked, secondaries + 1}
}

// guardedFor is oursFor with the routing rules.
func (s *stand) guardedFor(secondaries int) caller {
	c := s.oursFor(secondaries, nil)
	c.lists = []*libcni.NetworkConfigList{s.guarded}
	return c
}

// floorFor returns the caller without multiplexer. exec may be nil.
func (s *stand) floorFor(secondaries int, exec invoke.Exec) caller {
	return caller{s, s.cni("floor", exec), s.networks[:secondaries+1], nil, secondaries + 1}
}

func (s *stand) cni(cache string, exec invoke.Exec) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(s.bin), s.plugins}, filepath.Join(s.dir, "cache-"+cache), exec)
}

// add attaches the pod and returns how long that took.
func (c caller) add(ctx context.Context, p *pod) (time.Duration, error) {
	took, addresses := time.Duration(0), 0
	// libcni starts plugins from the thread that calls it.
	err := c.stand.node.Do(func() error {
		start := time.Now()
		for i, list := range c.lists {
			n, err := c.addOne(ctx, list, c.runtimeConf(p, i))
			if err != nil {
				return err
			}
			addresses += n
		}
		took = time.Since(start)
		return nil
	})
	if err == nil && addresses != c.wanted {
		err = fmt.Errorf("the pod has %d addresses, want %d", addresses, c.wanted)
	}
	return took, err
}

// addOne makes one call and returns how many addresses the result has.
func (c caller) addOne(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (int, error) {
	result, err := c.cni.AddNetworkList(ctx, list, rt)
	if err != nil {
		return 0, err
	}
	newest, err := current.NewResultFromResult(result)
	if err != nil {
		return 0, err
	}
	return len(newest.IPs), nil
}

// del detaches the pod, last network first, and returns how long that took.
func (c caller) del(ctx context.Context, p *pod) (time.Duration, error) {
	var took time.Duration
	err := c.stand.node.Do(func() error {
		start := time.Now()
		for i := len(c.lists) - 1; i >= 0; i-- {
			if errDel := c.cni.DelNetworkList(ctx, c.lists[i], c.runtimeConf(p, i)); errDel != nil {
				return errDel
			}
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

func (c caller) runtimeConf(p *pod, i int) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: p.container, NetNS: p.Path(), IfName: "eth0", CapabilityArgs: c.asked,
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", p.name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.container}, {"K8S_POD_UID", p.uid},
		},
	}
	if i > 0 {
		rt.IfName = fmt.Sprintf("net%d", i)
	}
	return rt
}

// filesystem says what kind a directory is on, as far as it matters: on tmpfs
// a sync costs nothing.
func filesystem(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("find the filesystem of %s: %w", dir, err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		return "tmpfs: syncing costs nothing here, which flatters us; choose another with -dir", nil
	}
	return fmt.Sprintf("filesystem type %#x, not tmpfs", st.Type), nil
}
