// Package rootpeer tells root from others at the other end of a unix socket
// (SO_PEERCRED), whatever the mode of the socket's file.
package rootpeer

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Check reports a peer that is not root: its words decide what runs as root,
// or what root tells.
func Check(conn net.Conn) error {
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
