package nodetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// proxy lets a node reach the API server, which listens on this machine's
// loopback, at addresses of its own.
type proxy struct {
	to string
	at []string

	mu        sync.Mutex
	listeners []net.Listener // nil: closed
	conns     map[net.Conn]bool
	wg        sync.WaitGroup
}

// open listens inside the namespaces. It does nothing to an open proxy.
func (p *proxy) open(s *space) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners != nil {
		return nil
	}
	for _, address := range p.at {
		err := s.do(func() error {
			listener, err := net.Listen("tcp", address)
			if err == nil {
				p.listeners = append(p.listeners, listener)
			}
			return err
		})
		if err != nil {
			p.stopListening()
			return fmt.Errorf("listen at the API server's address: %w", err)
		}
	}
	p.conns = map[net.Conn]bool{}
	for _, listener := range p.listeners {
		p.wg.Add(1)
		go p.accept(listener)
	}
	return nil
}

func (p *proxy) stopListening() {
	for _, listener := range p.listeners {
		_ = listener.Close()
	}
	p.listeners = nil
}

// close breaks every connection; later ones are refused.
func (p *proxy) close() {
	p.mu.Lock()
	p.stopListening()
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) accept(listener net.Listener) {
	defer p.wg.Done()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Add(1)
		go p.serve(listener, conn)
	}
}

func (p *proxy) serve(listener net.Listener, conn net.Conn) {
	defer p.wg.Done()
	defer func() { _ = conn.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "tcp", p.to)
	if err != nil {
		return // it is down, and so is this connection
	}
	defer func() { _ = server.Close() }()
	if !p.keep(listener, conn, server) {
		return
	}
	defer p.forget(conn, server)
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{conn, server}, {server, conn}} {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			_, copyErr := io.Copy(pair[0], pair[1])
			if half, ok := pair[0].(*net.TCPConn); ok && !errors.Is(copyErr, net.ErrClosed) {
				_ = half.CloseWrite()
			}
			ended <- struct{}{}
		}()
	}
	<-ended
	<-ended
}

// keep notes the connections, unless the proxy has been closed meanwhile.
func (p *proxy) keep(listener net.Listener, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.listeners, listener) {
		return false
	}
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return true
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
	}
}
