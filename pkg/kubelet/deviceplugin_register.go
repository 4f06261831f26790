package kubelet

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// registerTimeout is longer than kubelet tries to connect to the plugin.
const registerTimeout = 15 * time.Second

// lookRegister keeps the plugin registered by Register.
func (r *pluginRun) lookRegister(ctx context.Context, m moment) {
	if r.kubelet == (identity{}) {
		r.p.failed(network.Again.Errorf("kubelet's socket %s is missing: start kubelet on this node, and look whether its directory is mounted here", r.kubeletSocket()))
		return
	}
	known := r.register != nil && r.with == r.kubelet && r.register.socket.mine()
	heard := !m.mute(r.pace.lost) || known && m.now.Sub(r.register.opened) < r.pace.lost
	if known && heard || !r.try.due(m.now) {
		return
	}
	r.try.tried(m.now, r.pace.tick, r.pace.slowest)
	d, err := r.call(ctx)
	if err != nil && ctx.Err() == nil {
		r.p.failed(err)
	}
	if d == nil {
		return
	}
	if r.p.Status().Registered == ByWatcher { // meanwhile: once is enough
		r.shut(&d)
		return
	}
	r.shut(&r.register)
	r.register, r.with = d, r.kubelet
	r.try.reset()
	r.p.registered(ByRegister)
}

// call registers a socket of its own with kubelet. A kubelet that is called a
// second time for a socket that it is connected to refuses, and forgets to
// notice that the connection ends.
//
// The connection comes before the socket: a kubelet that starts removes all
// sockets and then listens, and would look for a removed one for long. There
// is no door and no error when that happens now.
func (r *pluginRun) call(ctx context.Context) (*door, error) {
	within, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(within, "unix", r.kubeletSocket())
	if err != nil {
		return nil, network.Again.Errorf("kubelet cannot be reached: %w: start kubelet on this node", err)
	}
	defer conn.Close()
	if identify(r.kubeletSocket()) != r.kubelet {
		return nil, nil // it restarts now, and the next look sees the new one
	}
	name, err := socketName(r.registerDir, r.p.Resource, newTag())
	if err != nil {
		return nil, err
	}
	d, err := r.p.openDoor(filepath.Join(r.registerDir, name), ByRegister)
	if err != nil {
		return nil, err
	}
	if err = r.ask(within, conn, name); err != nil {
		r.shut(&d)
		return nil, err
	}
	return d, nil
}

// ask calls Register on a connection, and on no other.
func (r *pluginRun) ask(ctx context.Context, on net.Conn, endpoint string) error {
	one := make(chan net.Conn, 1)
	one <- on
	client, err := grpc.NewClient("passthrough:///kubelet",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-one:
				return conn, nil
			default:
				return nil, errors.New("kubelet has ended the connection")
			}
		}))
	if err != nil {
		return network.Again.Errorf("connect to kubelet at %s: %w", r.kubeletSocket(), err)
	}
	defer client.Close()
	_, err = deviceplugin.NewRegistrationClient(client).Register(ctx, &deviceplugin.RegisterRequest{
		Version: deviceplugin.Version, Endpoint: endpoint, ResourceName: r.p.Resource, Options: r.p.options(),
	})
	if err != nil {
		return network.Again.Errorf("kubelet at %s does not register resource %s: %s", r.kubeletSocket(), r.p.Resource, status.Convert(err).Message())
	}
	return nil
}
