package kubelettest

import (
	"net"
	"sync"
)

// gate holds up what passes it while it is shut.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		g.opened = make(chan struct{})
	default:
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// pass waits until the gate is open or `closed` is.
func (g *gate) pass(closed <-chan struct{}) {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
	case <-closed:
	}
}

// slowListener puts the gate into each connection.
type slowListener struct {
	net.Listener
	gate *gate

	mu     sync.Mutex
	killed bool
	conns  []*slowConn
}

func (l *slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	slow := &slowConn{Conn: conn, gate: l.gate, closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, slow)
	if l.killed {
		_ = slow.Close()
	}
	return slow, nil
}

// Close closes all connections too, once nobody can make another. The server's
// Stop leaves those alone that it has not shaken hands with, and waits for them.
func (l *slowListener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed = true
	for _, conn := range l.conns {
		_ = conn.Close() // it may be closed already
	}
	return err
}

type slowConn struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.gate.pass(c.closed)
	return n, err
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.gate.pass(c.closed)
	return c.Conn.Write(p)
}

// Close also frees who waits at the gate.
func (c *slowConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
