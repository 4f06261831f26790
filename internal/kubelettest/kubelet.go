package kubelettest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Kubelet serves pod-resources on a socket.
type Kubelet struct {
	socket string

	mu       sync.Mutex
	pods     []*pod
	offered  []Device
	get      Get
	padding  int
	limit    bucket
	listener *slowListener
	server   *grpc.Server
	finished chan error // the result of the server's run
}

// New starts a kubelet on a socket, in place of any earlier one.
func New(socket string) (*Kubelet, error) {
	k := &Kubelet{socket: socket}
	if err := k.Restart(); err != nil {
		return nil, err
	}
	return k, nil
}

// Socket returns the path of the socket.
func (k *Kubelet) Socket() string { return k.socket }

// Stop kills the kubelet: connections break, nobody listens, the socket's
// file stays. It does nothing to a stopped one.
func (k *Kubelet) Stop() error {
	k.mu.Lock()
	server, finished := k.server, k.finished
	k.server = nil
	k.mu.Unlock()
	if server == nil {
		return nil
	}
	server.Stop()
	if err := <-finished; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("kubelet at %s ended: %w", k.socket, err)
	}
	return nil
}

// Restart stops the kubelet if it runs, and starts it on a new socket. It
// knows the pods that it knew, and it is not frozen.
func (k *Kubelet) Restart() error {
	if err := k.Stop(); err != nil {
		return err
	}
	if err := os.Remove(k.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: k.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit = bucket{}
	k.listener = &slowListener{Listener: listener, gate: newGate()}
	k.server = grpc.NewServer(grpc.UnaryInterceptor(k.limited))
	k.finished = make(chan error, 1)
	podresources.RegisterPodResourcesListerServer(k.server, &service{kubelet: k})
	go func(server *grpc.Server, listener net.Listener, finished chan<- error) {
		finished <- server.Serve(listener)
	}(k.server, k.listener, k.finished)
	return nil
}

// Freeze makes the kubelet hang, as a stopped process does: connections are
// accepted, and nothing is answered on old and new ones until Thaw.
func (k *Kubelet) Freeze() { k.current().shut() }

// Thaw ends Freeze.
func (k *Kubelet) Thaw() { k.current().open() }

func (k *Kubelet) current() *gate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listener.gate
}
