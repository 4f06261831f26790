package kubelet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sys/unix"
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
		err = fromRoot(conn)
		if err == nil {
			return conn, nil
		}
		_ = conn.Close()
		l.log.Warn("a connection to the device plugin is closed", "error", err.Error())
	}
}

// fromRoot reports a peer that is not root.
func fromRoot(conn net.Conn) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return fmt.Errorf("ask who the peer is: %w", err)
	}
	if cred.Uid != 0 {
		return fmt.Errorf("the peer is user %d, want root", cred.Uid)
	}
	return nil
}
