package nodetest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// envInside names the executable of internal/nodetest/inside.
const envInside = "MULTIPLEXER_NODETEST_INSIDE"

// Cluster is a control plane and its nodes.
type Cluster struct {
	*kubetest.Cluster
	// ControllerManager and Scheduler run beside the API server.
	ControllerManager, Scheduler *Process

	binaries string // a directory
	inside   string // the program
	dir      *kubetest.TempDir
	fabric   *fabric

	mu     sync.Mutex
	nodes  []*Node
	number int // of the last node
}

// New starts a control plane without nodes and returns when it makes pods'
// service accounts. apiFlags are more flags for kube-apiserver. Everything
// ends with Close, or when this process ends in whatever way.
func New(apiFlags ...string) (*Cluster, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("nodes are made of namespaces and cgroups, which needs root: run `sudo -E go test ...`")
	}
	c := &Cluster{}
	if err := c.start(apiFlags); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(apiFlags []string) error {
	var err error
	c.binaries, err = kubetest.Binaries("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
		"kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc")
	if err != nil {
		return err
	}
	if c.binaries, err = filepath.Abs(c.binaries); err != nil {
		return err
	}
	if c.inside, err = nettest.BuildProgram(envInside, "./internal/nodetest/inside"); err != nil {
		return err
	}
	if c.dir, err = makeTempDir(); err != nil {
		return err
	}
	if err = writeImage(c.dir.File("image.tar"), c.inside); err != nil {
		return err
	}
	if c.fabric, err = newFabric(c.inside); err != nil {
		return err
	}
	flags := []string{
		// As kubeadm has it. Service accounts have a controller here.
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--disable-admission-plugins=",
		"--service-cluster-ip-range=" + serviceRanges,
	}
	if c.Cluster, err = kubetest.New(append(flags, apiFlags...)...); err != nil {
		return err
	}
	return c.startControlPlane()
}

func (c *Cluster) startControlPlane() error {
	kubeconfig := c.dir.File("admin.kubeconfig")
	if err := c.AdminKubeconfig(kubeconfig); err != nil {
		return err
	}
	config := c.dir.File("scheduler.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(schedulerConfig, kubeconfig)), 0o600); err != nil {
		return fmt.Errorf("write the scheduler's configuration: %w", err)
	}
	c.ControllerManager = c.process("kube-controller-manager",
		"--kubeconfig="+kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--root-ca-file="+c.CAFile(),
		"--service-cluster-ip-range="+serviceRanges,
		// A node that is ready again is of use at once.
		"--node-monitor-period=1s",
	)
	c.Scheduler = c.process("kube-scheduler", "--config="+config, "--secure-port=0")
	for _, p := range []*Process{c.ControllerManager, c.Scheduler} {
		if err := p.Start(); err != nil {
			return err
		}
	}
	if err := c.publishAPI(); err != nil {
		return err
	}
	return c.WaitNamespace("default")
}

// publishAPI says where the Service "kubernetes" leads to: an API server on
// loopback does not say so itself.
func (c *Cluster) publishAPI() error {
	return c.Apply(fmt.Sprintf(`{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
		"addressType": "IPv4", "ports": [{"name": "https", "protocol": "TCP", "port": %s}],
		"endpoints": [{"addresses": [%q], "conditions": {"ready": true}}]
	}`, c.apiPort(), apiAddress))
}

func (c *Cluster) apiPort() string {
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	return port
}

// schedulerConfig lets a pod that had no room be tried again soon.
const schedulerConfig = `{
	"apiVersion": "kubescheduler.config.k8s.io/v1",
	"kind": "KubeSchedulerConfiguration",
	"clientConnection": {"kubeconfig": %q},
	"leaderElection": {"leaderElect": false},
	"podInitialBackoffSeconds": 1,
	"podMaxBackoffSeconds": 1
}`

// process is a program of the control plane.
func (c *Cluster) process(name string, args ...string) *Process {
	return &Process{
		name: name, path: filepath.Join(c.binaries, name), args: args,
		env: environment(c.binaries, c.dir.Path), log: c.dir.File(name + ".log"),
	}
}

// WaitNamespace returns when pods can be made in a namespace: it has a service
// account.
func (c *Cluster) WaitNamespace(namespace string) error {
	err := kubetest.Poll(patience, func() (bool, error) {
		if p := c.ended(); p != nil {
			return true, fmt.Errorf("%s ended: %s", p.name, p.tail(0))
		}
		answer, err := c.Do(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", nil)
		if err == nil {
			err = answer.Err()
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the service account of namespace %s: %w", namespace, err)
	}
	return nil
}

// ended is a process of the control plane that ended by itself.
func (c *Cluster) ended() *Process {
	for _, p := range []*Process{c.ControllerManager, c.Scheduler} {
		if !p.Running() {
			return p
		}
	}
	return nil
}

// ApplyFiles applies files of manifests, see [kubetest.Cluster.Apply].
func (c *Cluster) ApplyFiles(paths ...string) error { return eachFile(paths, c.Apply) }

// DeleteFiles deletes what files of manifests say, see [kubetest.Cluster.Delete].
func (c *Cluster) DeleteFiles(paths ...string) error { return eachFile(paths, c.Delete) }

func eachFile(paths []string, do func(documents ...string) error) error {
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if err = do(string(content)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// Nodes are the nodes so far.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Node(nil), c.nodes...)
}

// processes are all that have a log to show.
func (c *Cluster) processes() []*Process {
	all := []*Process{c.ControllerManager, c.Scheduler}
	for _, n := range c.Nodes() {
		all = append(all, n.processes()...)
	}
	return all
}

// Close ends everything and removes all that it wrote.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes() {
		errs = append(errs, n.Crash())
	}
	for _, p := range []*Process{c.ControllerManager, c.Scheduler} {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	if c.Cluster != nil {
		errs = append(errs, c.Cluster.Close())
	}
	if c.fabric != nil {
		errs = append(errs, c.fabric.space.close())
	}
	if c.dir != nil {
		errs = append(errs, c.dir.Remove())
	}
	return errors.Join(errs...)
}
