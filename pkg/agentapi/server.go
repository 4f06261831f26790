package agentapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/rootpeer"
)

// Server answers the plugins of one node.
type Server struct {
	// Answer knows, within ctx. Its error's kind and text go to the plugin.
	Answer func(ctx context.Context, request *Request) (*Known, error)
	Log    *slog.Logger
	Busy   int // requests that are answered at once
	Queue  int // more that wait for their turn; the rest is sent away
}

// Socket is the agent's socket.
type Socket struct {
	*net.UnixListener
	// File is ours. Its inode cannot be another's while the socket is open.
	File os.FileInfo
}

// Listen makes the socket, for root alone, in place of what an agent before
// left. Two agents must not share it: the later one takes it over.
func Listen(path string) (*Socket, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the agent socket's directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("make the agent socket: %s is there and is no socket: name a free path, or that of an agent's socket", path)
	}
	// Nobody can connect before the mode is right, and the rename is atomic. A
	// process id would not do for the name: each agent's may be 1.
	temporary := path + "." + rand.Text()[:8]
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the agent socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	s := &Socket{UnixListener: listener}
	if err = os.Chmod(temporary, 0o600); err == nil {
		s.File, err = os.Lstat(temporary) // by `path` it may be another agent's in a moment
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the agent socket: %w", err), listener.Close(), os.Remove(temporary))
	}
	return s, nil
}

// Serve answers until ctx ends, and then until every request that it took
// has its reply.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	taken, turn := make(chan struct{}, s.Busy+s.Queue), make(chan struct{}, s.Busy)
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		if scarce(err) { // of files or memory, for a moment
			s.Log.Warn("a request is not taken yet", "error", err.Error())
			time.Sleep(scarcePause)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept on the agent socket: %w", err)
		}
		select {
		case taken <- struct{}{}:
			open.Go(func() {
				defer func() { <-taken }()
				s.serve(ctx, conn, turn)
			})
		default:
			open.Go(func() { s.sendAway(conn) })
		}
	}
}

// scarcePause is how long nobody is accepted when the process or the node has
// no file or no memory left.
const scarcePause = 50 * time.Millisecond

func scarce(err error) bool {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// margin is what is kept of a plugin's patience for the reply: one that says
// what was waited for in vain is better than none.
const margin = 100 * time.Millisecond

// serve answers one connection. ctx is not its limit: what was taken is
// answered.
func (s *Server) serve(ctx context.Context, conn net.Conn, turn chan struct{}) {
	request := &Request{}
	protocol, err := s.take(conn, request)
	if err != nil {
		s.Log.Warn("a request cannot be read", "error", err.Error())
		_ = conn.Close()
		return
	}
	if protocol != Protocol {
		s.Log.Warn("a plugin of another version gets no answer: the agent " + differ(Protocol, protocol).Error())
		s.finish(conn, Reply{}) // the plugin says it too
		return
	}
	budget := min(max(request.Budget, 0), Patience)
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget-min(budget/2, margin))
	defer cancel()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-within.Done():
		_ = conn.Close() // the plugin waits no longer
		return
	}
	s.finish(conn, s.reply(within, request))
}

// take reads a request, of root alone.
func (s *Server) take(conn net.Conn, request *Request) (protocol int, err error) {
	if err = rootpeer.Check(conn); err != nil {
		return 0, err
	}
	if err = conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return 0, err
	}
	return read(conn, request)
}

// sendAway tells a plugin that there is no place in the queue. Its request is
// read all the same: a reply on top of an unread request would be lost.
func (s *Server) sendAway(conn net.Conn) {
	if _, err := s.take(conn, &Request{}); err != nil {
		_ = conn.Close()
		return
	}
	s.finish(conn, Reply{Error: &Error{network.Again, fmt.Sprintf("%d requests wait already", s.Busy+s.Queue)}})
}

func (s *Server) reply(ctx context.Context, request *Request) Reply {
	known, err := s.Answer(ctx, request)
	if err == nil {
		return Reply{Known: known}
	}
	var kind network.Kind
	if !errors.As(err, &kind) {
		kind = network.Again
	}
	return Reply{Error: &Error{kind, err.Error()}}
}

// finish sends the reply.
func (s *Server) finish(conn net.Conn, reply Reply) {
	defer conn.Close()
	reply.Protocol = Protocol
	err := conn.SetDeadline(time.Now().Add(Patience))
	if err == nil {
		err = write(conn, reply)
	}
	if err != nil {
		s.Log.Warn("a reply cannot be sent", "error", err.Error())
	}
}
