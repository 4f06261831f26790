package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// maxMessage bounds an answer, as kubelet's own clients do.
const maxMessage = 16 << 20

// connection returns the connection when kubelet can be reached. Requests on
// it wait for kubelet until their context ends, so a socket where nobody
// listens is found out here, at once, and so is one where somebody listens
// again.
func (r *Resources) connection(ctx context.Context) (*grpc.ClientConn, error) {
	conn, err := r.connect()
	if err != nil {
		return nil, err
	}
	if conn.GetState() == connectivity.Ready {
		return conn, nil
	}
	probe, err := r.dial(ctx)
	if err != nil {
		return nil, r.unreachable(err)
	}
	_ = probe.Close() // it has carried nothing
	conn.ResetConnectBackoff()
	return conn, nil
}

func (r *Resources) connect() (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, network.Again.Errorf("the connection to kubelet at %s is closed: the agent ends", r.Socket)
	}
	if r.conn != nil {
		return r.conn, nil
	}
	pace := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	conn, err := grpc.NewClient("passthrough:///kubelet",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			r.dials.Add(1)
			return r.dial(ctx)
		}),
		grpc.WithAuthority("localhost"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.WaitForReady(true)),
	)
	if err != nil {
		return nil, network.Invalid.Errorf("connect to kubelet at %s: %w", r.Socket, err)
	}
	r.conn, r.turn = conn, make(chan struct{}, 1)
	return conn, nil
}

func (r *Resources) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", r.Socket)
}

// unreachable says what to do about a socket that does not answer.
func (r *Resources) unreachable(err error) error {
	dir := filepath.Dir(r.Socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return network.Again.Errorf("kubelet's pod-resources socket %s does not exist: mount kubelet's directory %s into the agent, "+
			"or name the right one (it is pod-resources/kubelet.sock in kubelet's --root-dir)", r.Socket, dir)
	case errors.Is(err, unix.ECONNREFUSED):
		return network.Again.Errorf("nobody listens on kubelet's pod-resources socket %s: kubelet is down, "+
			"or the socket itself is mounted (mount its directory %s: kubelet makes a new socket at each start)", r.Socket, dir)
	case errors.Is(err, fs.ErrPermission):
		return network.Again.Errorf("kubelet's pod-resources socket %s: permission denied: the agent must run as root", r.Socket)
	case errors.Is(err, unix.EAGAIN):
		return network.Again.Errorf("kubelet at %s takes no more connections: look whether kubelet hangs on this node", r.Socket)
	}
	return network.Again.Errorf("connect to kubelet's pod-resources service: %w", err)
}
