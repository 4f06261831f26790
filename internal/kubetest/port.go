package kubetest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// port is a TCP port of 127.0.0.1 that nobody else gets. The socket is bound
// and never listens: who connects while the API server is down is refused,
// and the API server binds beside it (--permit-port-sharing), as often as it
// is started.
type port struct {
	fd     int
	number int
}

func reservePort() (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	p := &port{fd: fd}
	if p.number, err = bind(fd); err != nil {
		_ = p.close()
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	return p, nil
}

func bind(fd int) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	inet, ok := address.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("unexpected address %T", address)
	}
	return inet.Port, nil
}

func (p *port) close() error { return unix.Close(p.fd) }
