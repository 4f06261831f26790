package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/rootpeer"
)

// Patience is how long an agent is waited for, whatever else there is time
// for: one that accepts and hangs is as good as absent.
const Patience = 2 * time.Second

// Ask sends one request to the agent at a socket. Errors of the transport are
// of kind Again; what the agent refuses keeps its kind.
func Ask(ctx context.Context, socket string, request Request) (*Known, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	reply, protocol, err := exchange(ctx, socket, request)
	if err != nil {
		return nil, network.Again.Errorf("agent at %s: %w: see that multiplexerd runs there (agentSocket of the configuration is its --socket); pods that ask for networks wait until it answers", socket, err)
	}
	switch {
	case protocol != Protocol:
		return nil, network.Again.Errorf("agent at %s %w", socket, differ(protocol, Protocol))
	case reply.Error != nil:
		return nil, reply.Error.Kind.Errorf("agent: %s", reply.Error.Text)
	case reply.Known == nil:
		return nil, network.Again.Errorf("agent at %s: its reply is empty", socket)
	}
	return reply.Known, nil
}

// ErrProtocol says that plugin and agent are of versions that do not
// understand each other.
var ErrProtocol = errors.New("upgrade")

// differ says which of the two is older, and what it has to become.
func differ(agent, plugin int) error {
	who := "the agent (multiplexerd) to the plugin's version, or to a later one of"
	if agent > plugin {
		who = "the plugin on this node to the agent's version (multiplexerd install of that version, or its agent with --install, does), or to another one of"
	}
	return fmt.Errorf("speaks protocol %d, the plugin %d: %w %s protocol %d; pods that ask for networks wait until then", agent, plugin, ErrProtocol, who, max(agent, plugin))
}

func exchange(ctx context.Context, socket string, request Request) (*Reply, int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, 0, shorter(err)
	}
	defer conn.Close()
	if err = rootpeer.Check(conn); err != nil {
		return nil, 0, err
	}
	deadline, _ := ctx.Deadline()
	request.Protocol, request.Budget = Protocol, time.Until(deadline)
	if err = conn.SetDeadline(deadline); err != nil {
		return nil, 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err = write(conn, request); err != nil {
		return nil, 0, shorter(err)
	}
	reply := &Reply{}
	protocol, err := read(conn, reply)
	if err != nil {
		return nil, 0, shorter(err)
	}
	return reply, protocol, nil
}

// write sends a message and the end of it.
func write(conn net.Conn, message any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if _, err = conn.Write(raw); err != nil {
		return err
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// read takes a whole message. Of a message of another protocol only that is
// known: the rest may have another shape.
func read(conn net.Conn, message any) (protocol int, err error) {
	raw, err := io.ReadAll(io.LimitReader(conn, maxMessage+1))
	switch {
	case err != nil:
		return 0, err
	case len(raw) > maxMessage:
		return 0, fmt.Errorf("a message of more than %d bytes", maxMessage)
	case len(raw) == 0:
		return 0, errors.New("it closed the connection without a word")
	}
	var head struct {
		Protocol int `json:"protocol"`
	}
	if err = json.Unmarshal(raw, &head); err == nil && head.Protocol == Protocol {
		err = json.Unmarshal(raw, message)
	}
	if err != nil {
		return 0, fmt.Errorf("decode: %w", err)
	}
	return head.Protocol, nil
}

// shorter leaves the socket's path out of an error that is told with it.
func shorter(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}
