package agentapi

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// fromRoot reports a peer that is not root: its words decide what runs as
// root, or what root tells.
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
