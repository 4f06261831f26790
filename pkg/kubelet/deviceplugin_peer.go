package kubelet

import (
	"log/slog"
	"net"

	"github.com/multiplexer-cni/multiplexer/pkg/rootpeer"
)

// rootListener accepts root alone, whatever the socket's file says: who asks
// for devices gets what kubelet gets.
type rootListener struct {
	net.Listener
	log *slog.Logger
}

// Accept returns the next connection of root.
func (l *rootListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		err = rootpeer.Check(conn)
		if err == nil {
			return conn, nil
		}
		_ = conn.Close()
		l.log.Warn("a connection to the device plugin is closed", "error", err.Error())
	}
}
