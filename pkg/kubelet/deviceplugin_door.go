package kubelet

import (
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// door is a socket with a server behind it.
type door struct {
	socket   *pluginSocket
	server   *grpc.Server
	calls    *calls
	closing  chan struct{} // streams end when it is closed
	finished chan error    // the result of the server's run
	opened   time.Time
}

// openDoor serves on a new socket for those that come in one way.
func (p *DevicePlugin) openDoor(path string, how Registered) (*door, error) {
	socket, err := listenPlugin(path)
	if err != nil {
		return nil, err
	}
	under := &calls{}
	d := &door{
		socket:   socket,
		server:   grpc.NewServer(grpc.WaitForHandlers(true), grpc.ConnectionTimeout(lastAnswers), grpc.StatsHandler(under)),
		calls:    under,
		closing:  make(chan struct{}),
		finished: make(chan error, 1),
		opened:   time.Now(),
	}
	deviceplugin.RegisterDevicePluginServer(d.server, &pluginService{plugin: p, how: how, closing: d.closing})
	if how == ByWatcher {
		registration.RegisterRegistrationServer(d.server, &watcherService{plugin: p})
	}
	go func() {
		d.finished <- d.server.Serve(&rootListener{Listener: socket, log: p.Log.With("resource", p.Resource)})
	}()
	return d, nil
}

// lastAnswers is how long a closing door waits for answers under way, and then
// for kubelet to read them. An Allocate that breaks off fails a pod.
const lastAnswers = 5 * time.Second

// close ends what it serves, and removes the socket's file if it is still this
// door's. Answers come first: kubelet cuts the connection as soon as its stream
// ends or the file is gone. It reads the stream's end behind the answers, but
// would see at once that the file is gone: that comes when it has cut.
func (d *door) close() error {
	d.calls.answers.wait(lastAnswers)
	close(d.closing)
	d.calls.connections.wait(lastAnswers)
	err := d.socket.remove() // before the listener ends: then the inode may be another's
	hurry := time.AfterFunc(lastAnswers, d.server.Stop)
	d.server.GracefulStop()
	hurry.Stop()
	if serr := <-d.finished; serr != nil && !errors.Is(serr, grpc.ErrServerStopped) && !errors.Is(serr, net.ErrClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
