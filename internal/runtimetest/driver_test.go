package runtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	gocni "github.com/containerd/go-cni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/cri-o/ocicni/pkg/ocicni"
	"github.com/sasha-s/go-deadlock"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// envDriver makes the test binary a driver; its value is a DriverConfig.
const envDriver = "MULTIPLEXER_RUNTIMETEST_DRIVER"

const (
	containerd = "containerd"
	crio       = "cri-o"
)

// varLib is where the test's own directory is mounted in a driver.
const varLib = "/var/lib"

// podAnnotations is containerd's annotations.PodAnnotations.
const podAnnotations = "io.kubernetes.cri.pod-annotations"

// DriverConfig says which runtime a driver plays, and where it finds things.
type DriverConfig struct {
	Runtime string
	Ready   bool // the mounts are made
	ConfDir string
	BinDir  string
	VarLib  string
}

// Call is one thing that the runtime is asked to do.
type Call struct {
	Verb  string // setup, check, remove, status, gc
	Pod   Pod
	Valid []Pod  // of gc
	Until string // a file: when it is there, the call's time is over; "" = never
}

// Pod is a pod as a runtime knows it.
type Pod struct {
	ID, Netns            string
	Namespace, Name, UID string
	Annotations          map[string]string
	Ports                []ocicni.PortMapping
}

// Reply is what came of a call.
type Reply struct {
	Failure *Failure
	// Raw is the result of CNI, converted to version 1.1.0 or what is newer.
	Raw json.RawMessage
	// Interfaces are containerd's view of the result, by name.
	Interfaces map[string]Interface
	// IPs are the pod's addresses as the runtime reports them to kubelet.
	IPs []string
}

// Interface is one interface as containerd sees it.
type Interface struct {
	IPs          []string
	Mac, Sandbox string
}

// Failure is an error that crossed the process boundary.
type Failure struct {
	Code uint // of CNI; 0 when the error had none
	Msg  string
}

// Error returns the whole message.
func (f *Failure) Error() string { return f.Msg }

func TestMain(m *testing.M) {
	encoded := os.Getenv(envDriver)
	if encoded == "" {
		os.Exit(m.Run())
	}
	if err := drive(encoded); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

// drive is the driver's main function.
func drive(encoded string) error {
	var config DriverConfig
	if err := json.Unmarshal([]byte(encoded), &config); err != nil {
		return err
	}
	if !config.Ready {
		return enterMounts(config)
	}
	logrus.SetLevel(logrus.WarnLevel)
	// With -race, go-cni's locks look for deadlocks, with a library that cannot
	// tell the goroutines of a newer Go apart.
	deadlock.Opts.Disable = true
	handler, err := newHandler(config)
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err = server.Register(&Driver{handler}); err != nil {
		return err
	}
	server.ServeConn(pipes{os.Stdin, os.Stdout})
	return nil
}

// enterMounts starts the process anew in a mount namespace of its own. Mounts
// that are made outside later, such as named network namespaces, still arrive.
func enterMounts(config DriverConfig) error {
	runtime.LockOSThread() // exec keeps the namespaces of the thread that calls it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts slaves: %w", err)
	}
	if err := unix.Mount(config.VarLib, varLib, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", varLib, err)
	}
	config.Ready = true
	encoded, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err = os.Setenv(envDriver, string(encoded)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// pipes are the driver's connection to the test.
type pipes struct {
	io.ReadCloser
	io.Writer
}

// Driver is what the test calls; calls run at the same time.
type Driver struct{ handler handler }

type handler interface {
	handle(ctx context.Context, call Call, reply *Reply) error
}

// Do runs one call.
func (d *Driver) Do(call Call, reply *Reply) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if call.Until != "" {
		go func() {
			for _, err := os.Stat(call.Until); err != nil && ctx.Err() == nil; _, err = os.Stat(call.Until) {
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
		}()
	}
	if err := d.handler.handle(ctx, call, reply); err != nil {
		reply.Failure = &Failure{Msg: err.Error()}
		var e *types.Error
		if errors.As(err, &e) {
			reply.Failure.Code = e.Code
		}
	}
	return nil
}

func newHandler(config DriverConfig) (handler, error) {
	if config.Runtime == crio {
		plugin, err := ocicni.InitCNINoInotify("", config.ConfDir, "", config.BinDir)
		return crioHandler{plugin}, err
	}
	// As containerd's CRI plugin does: internal/cri/server/service_linux.go.
	plugin, err := containerdCNI(config, gocni.WithLoNetwork, gocni.WithDefaultConf)
	if err != nil {
		return nil, err
	}
	withoutLo, err := containerdCNI(config, gocni.WithDefaultConf)
	return containerdHandler{plugin, withoutLo}, err
}

func containerdCNI(config DriverConfig, networks ...gocni.Opt) (gocni.CNI, error) {
	plugin, err := gocni.New(gocni.WithMinNetworkCount(len(networks)), gocni.WithPluginConfDir(config.ConfDir),
		gocni.WithPluginMaxConfNum(1), gocni.WithPluginDir([]string{config.BinDir}))
	if err != nil {
		return nil, err
	}
	return plugin, plugin.Load(networks...)
}

type containerdHandler struct {
	cni gocni.CNI
	// withoutLo serves Check, which containerd itself never calls: its lo
	// network is of version 0.3.1, which knows no CHECK.
	withoutLo gocni.CNI
}

// options are what containerd passes: cniNamespaceOpts in
// internal/cri/server/sandbox_run.go.
func (containerdHandler) options(pod Pod) []gocni.NamespaceOpts {
	opts := []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"K8S_POD_NAMESPACE":          pod.Namespace,
			"K8S_POD_NAME":               pod.Name,
			"K8S_POD_INFRA_CONTAINER_ID": pod.ID,
			"K8S_POD_UID":                pod.UID,
			"IgnoreUnknown":              "1",
		}),
		gocni.WithCapability(podAnnotations, pod.Annotations),
		gocni.WithCapabilityDNS(gocni.DNS{Servers: []string{"10.96.0.10"}}),
		gocni.WithCapabilityCgroupPath("/kubepods/pod" + pod.UID),
	}
	var ports []gocni.PortMapping
	for _, p := range pod.Ports {
		ports = append(ports, gocni.PortMapping{
			HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol, HostIP: p.HostIP,
		})
	}
	if len(ports) > 0 {
		opts = append(opts, gocni.WithCapabilityPortMap(ports))
	}
	return opts
}

func (h containerdHandler) handle(ctx context.Context, call Call, reply *Reply) error {
	pod, opts := call.Pod, h.options(call.Pod)
	switch call.Verb {
	case "setup":
		result, err := h.cni.Setup(ctx, pod.ID, pod.Netns, opts...)
		if err != nil {
			return err
		}
		return containerdReply(result, reply)
	case "check":
		return h.withoutLo.Check(ctx, pod.ID, pod.Netns, opts...)
	case "remove":
		return h.cni.Remove(ctx, pod.ID, pod.Netns, opts...)
	case "status":
		return h.cni.Status()
	}
	return fmt.Errorf("containerd calls no %q", call.Verb)
}

func containerdReply(result *gocni.Result, reply *Reply) error {
	reply.Interfaces = map[string]Interface{}
	for name, config := range result.Interfaces {
		i := Interface{Mac: config.Mac, Sandbox: config.Sandbox}
		for _, ip := range config.IPConfigs {
			i.IPs = append(i.IPs, ip.IP.String())
		}
		reply.Interfaces[name] = i
	}
	// selectPodIPs in internal/cri/server/sandbox_run.go, without a preference.
	reply.IPs = reply.Interfaces["eth0"].IPs
	for _, raw := range result.Raw() {
		if len(raw.Interfaces) == 1 && raw.Interfaces[0].Name == "lo" {
			continue
		}
		encoded, err := json.Marshal(raw)
		if err != nil {
			return err
		}
		reply.Raw = encoded
	}
	return nil
}

type crioHandler struct{ cni ocicni.CNIPlugin }

// network is what CRI-O passes: newPodNetwork in server/sandbox_network.go.
// It maps host ports by itself.
func (h crioHandler) network(pod Pod) ocicni.PodNetwork {
	return ocicni.PodNetwork{
		Name: pod.Name, Namespace: pod.Namespace, ID: pod.ID, UID: pod.UID, NetNS: pod.Netns,
		RuntimeConfig: map[string]ocicni.RuntimeConfig{
			h.cni.GetDefaultNetworkName(): {
				CgroupPath: "/kubepods/pod" + pod.UID, PodAnnotations: &pod.Annotations,
			},
		},
	}
}

func (h crioHandler) handle(ctx context.Context, call Call, reply *Reply) error {
	switch call.Verb {
	case "setup":
		if _, err := h.cni.SetUpPodWithContext(ctx, h.network(call.Pod)); err != nil {
			return err
		}
		return h.podStatus(ctx, call.Pod, reply)
	case "check":
		return h.podStatus(ctx, call.Pod, reply)
	case "remove":
		return h.cni.TearDownPodWithContext(ctx, h.network(call.Pod))
	case "status":
		return h.cni.StatusWithContext(ctx)
	case "gc":
		var valid []*ocicni.PodNetwork
		for _, pod := range call.Valid {
			network := h.network(pod)
			valid = append(valid, &network)
		}
		return h.cni.GC(ctx, valid)
	}
	return fmt.Errorf("CRI-O calls no %q", call.Verb)
}

// podStatus is how CRI-O gets a pod's addresses right after every ADD:
// networkStart in server/sandbox_network.go. It calls CHECK.
func (h crioHandler) podStatus(ctx context.Context, pod Pod, reply *Reply) error {
	results, err := h.cni.GetPodNetworkStatusWithContext(ctx, h.network(pod))
	if err != nil {
		return err
	}
	if len(results) != 1 {
		return fmt.Errorf("%d results", len(results))
	}
	result, err := types100.GetResult(results[0].Result)
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		reply.IPs = append(reply.IPs, ip.Address.IP.String())
	}
	reply.Raw, err = json.Marshal(result)
	return err
}

// driver is the test's end of a driver.
type driver struct {
	t      *testing.T
	client *rpc.Client
}

// startDriver starts a runtime in the node. The end of the test ends it.
func startDriver(t *testing.T, node *nettest.Node, config DriverConfig) *driver {
	t.Helper()
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envDriver+"="+string(encoded))
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, client: rpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{stdout, stdin})}
	t.Cleanup(func() {
		_ = d.client.Close() // the driver ends with its standard input
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case waitErr := <-ended:
			if waitErr != nil {
				t.Errorf("driver: %v", waitErr)
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Error("the driver did not end by itself")
		}
		if text, readErr := os.ReadFile(log.Name()); t.Failed() && readErr == nil {
			t.Logf("standard error of the runtime and its plugins:\n%s", text)
		}
		_ = log.Close()
	})
	return d
}

// do runs a call. What fails about it is in the reply.
func (d *driver) do(call Call) (Reply, error) {
	d.t.Helper()
	var reply Reply
	if err := d.client.Call("Driver.Do", call, &reply); err != nil {
		d.t.Errorf("%s: the driver is gone: %v", call.Verb, err)
		return reply, err
	}
	if reply.Failure != nil {
		return reply, reply.Failure
	}
	return reply, nil
}

func (d *driver) must(call Call) Reply {
	d.t.Helper()
	reply, err := d.do(call)
	if err != nil {
		d.t.Fatalf("%s of %s: %v", call.Verb, call.Pod.Name, err)
	}
	return reply
}

func (d *driver) setup(pod Pod) Reply { d.t.Helper(); return d.must(Call{Verb: "setup", Pod: pod}) }
func (d *driver) check(pod Pod)       { d.t.Helper(); d.must(Call{Verb: "check", Pod: pod}) }
func (d *driver) remove(pod Pod)      { d.t.Helper(); d.must(Call{Verb: "remove", Pod: pod}) }
func (d *driver) status()             { d.t.Helper(); d.must(Call{Verb: "status"}) }

// fails runs a call that must fail, and returns how.
func (d *driver) fails(call Call) *Failure {
	d.t.Helper()
	_, err := d.do(call)
	var f *Failure
	if !errors.As(err, &f) {
		d.t.Fatalf("%s of %s succeeded, an error is due", call.Verb, call.Pod.Name)
	}
	return f
}
