package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"sync/atomic"
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

// connection is a gRPC connection, which dials by itself when it is used
// first and when it was lost.
type connection struct {
	*grpc.ClientConn
	undialed atomic.Pointer[undialed] // the last dial, if it failed
}

// undialed is a dial that failed.
type undialed struct {
	number int64 // of Resources.dials
	reason error
}

// connect returns the connection, or makes one.
func (r *Resources) connect() (*connection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, network.Again.Errorf("the connection to kubelet at %s is closed: the agent ends", r.Socket)
	}
	if r.conn != nil {
		return r.conn, nil
	}
	c := &connection{}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		number := r.dials.Add(1)
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", r.Socket)
		if err != nil {
			c.undialed.Store(&undialed{number, err})
			return nil, err
		}
		c.undialed.Store(nil)
		return conn, nil
	}
	pace := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	var err error
	c.ClientConn, err = grpc.NewClient("passthrough:///kubelet",
		grpc.WithContextDialer(dial),
		grpc.WithAuthority("localhost"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, network.Invalid.Errorf("connect to kubelet at %s: %w", r.Socket, err)
	}
	r.conn = c
	if r.turn == nil {
		r.turn = make(chan struct{}, 1)
	}
	return c, nil
}

// abandon gives up a connection that cannot be made: the next request makes a
// new one at once, where the old one would wait before it dials again.
func (r *Resources) abandon(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == c && (c.undialed.Load() != nil || c.GetState() == connectivity.TransientFailure) {
		_ = c.Close() // what failed has nothing more to tell
		r.conn = nil
	}
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
