package kubelettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/validation"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// dialTimeout is how long the real one tries to connect to a plugin.
const dialTimeout = 10 * time.Second

// registrar is the service on kubelet.sock.
type registrar struct {
	deviceplugin.UnimplementedRegistrationServer
	run *managerRun
	dir string
}

// Register connects to the plugin before it answers.
func (s *registrar) Register(_ context.Context, request *deviceplugin.RegisterRequest) (*deviceplugin.Empty, error) {
	err := s.run.m.validate(request.GetResourceName(), request.GetVersion())
	if err == nil {
		err = s.run.connect(request.GetResourceName(), filepath.Join(s.dir, request.GetEndpoint()))
	}
	return &deviceplugin.Empty{}, err
}

func (m *DeviceManager) validate(resource string, versions ...string) error {
	if !slices.Contains(versions, deviceplugin.Version) {
		return fmt.Errorf("manager version, %s, is not among plugin supported versions %v", deviceplugin.Version, versions)
	}
	if !strings.Contains(resource, "/") || strings.Contains(resource, "kubernetes.io/") || len(validation.IsQualifiedName("requests."+resource)) > 0 {
		return fmt.Errorf("the ResourceName %q is invalid", resource)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if reason := m.refused[resource]; reason != "" {
		return errors.New(reason)
	}
	return nil
}

// pluginClient is a connection to a plugin.
type pluginClient struct {
	resource, socket string
	conn             *grpc.ClientConn
	api              deviceplugin.DevicePluginClient
	options          *deviceplugin.DevicePluginOptions
}

func dialPlugin(ctx context.Context, socket string) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(dialCtx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(dialCtx, "unix", socket)
		}))
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, errors.Join(fmt.Errorf("failed to dial socket %s: %w", socket, ctx.Err()), conn.Close())
		}
	}
	return conn, nil
}

// connect makes a plugin the one of its resource, and follows its list.
func (run *managerRun) connect(name, socket string) error {
	conn, err := dialPlugin(run.ctx, socket)
	if err != nil {
		return err
	}
	c := &pluginClient{resource: name, socket: socket, conn: conn, api: deviceplugin.NewDevicePluginClient(conn)}
	if c.options, err = c.api.GetDevicePluginOptions(run.ctx, &deviceplugin.Empty{}); err == nil {
		err = run.m.connected(c)
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	run.running.Go(func() { run.follow(c) })
	return nil
}

// connected notes a client. The real one that is called twice for a socket
// refuses, and forgets the first client, whose end it will not notice.
func (m *DeviceManager) connected(c *pluginClient) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resources[c.resource]
	if r == nil {
		r = &resource{allocated: set{}}
		m.resources[c.resource] = r
	}
	if !m.older && slices.Contains(r.endpoints, c.socket) {
		r.drop(c.socket)
		return fmt.Errorf("device plugin already connected: %s", c.socket)
	}
	if m.older {
		r.clients, r.endpoints = nil, nil
	}
	r.clients, r.endpoints = append(r.clients, c), append(r.endpoints, c.socket)
	r.registrations++
	m.tell()
	return nil
}

func (r *resource) drop(socket string) {
	r.clients = slices.DeleteFunc(r.clients, func(c *pluginClient) bool { return c.socket == socket })
}

// follow takes lists until the stream ends.
func (run *managerRun) follow(c *pluginClient) {
	defer c.conn.Close()
	stream, err := c.api.ListAndWatch(run.ctx, &deviceplugin.Empty{})
	for err == nil {
		var list *deviceplugin.ListAndWatchResponse
		if list, err = stream.Recv(); err == nil {
			run.m.take(c.resource, list.GetDevices())
		}
	}
	run.m.disconnect(c.resource, c.socket)
}

func (m *DeviceManager) take(name string, list []*deviceplugin.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resources[name]
	r.devices, r.healthy, r.unhealthy = map[string]*deviceplugin.Device{}, set{}, set{}
	for _, d := range list {
		r.devices[d.GetID()] = d
		if d.GetHealth() == deviceplugin.Healthy {
			r.healthy[d.GetID()] = true
		} else {
			r.unhealthy[d.GetID()] = true
		}
	}
	r.lists++
	m.tell()
}

// disconnect ends the client of a socket; an older kubelet that of the
// resource, whichever it is. All devices are unhealthy after the last one.
func (m *DeviceManager) disconnect(name, socket string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.resources[name]
	i := slices.IndexFunc(r.clients, func(c *pluginClient) bool { return m.older || c.socket == socket })
	if i < 0 {
		return
	}
	_ = r.clients[i].conn.Close() // it may be closed already
	r.clients, r.endpoints = slices.Delete(r.clients, i, i+1), slices.DeleteFunc(r.endpoints, func(s string) bool { return m.older || s == socket })
	if len(r.endpoints) == 0 {
		if r.unhealthy == nil {
			r.unhealthy = set{}
		}
		for id := range r.healthy {
			r.unhealthy[id] = true
		}
		r.healthy = set{}
	}
	m.tell()
}

// Hangup breaks the connections to the plugins of a resource, as a kubelet
// does that cannot read a list. It does not connect again by itself.
func (m *DeviceManager) Hangup(resource string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.resource(resource).clients {
		_ = c.conn.Close() // it may be closed already
	}
}
