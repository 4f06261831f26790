package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
)

// Machine is a guest that runs until it is stopped, and does what its hand is
// asked to.
type Machine struct {
	Hand
	Options Options

	qemu *qemu
	temp string
	stop context.CancelFunc
}

// Start boots a guest whose command is the program internal/guest/hand. A boot
// that does not come as far as the command is repeated once, and said. Each guest
// needs a share of its own; "" = a temporary one.
func Start(ctx context.Context, o Options) (*Machine, error) {
	m, started, err := o.startMachine(ctx)
	if err != nil && !started && ctx.Err() == nil {
		fmt.Fprintf(o.Stderr, "guest: boot 1 of 2 came to nothing, and is repeated: %v\n", err)
		m, _, err = o.startMachine(ctx)
	}
	return m, err
}

func (o Options) startMachine(ctx context.Context) (m *Machine, started bool, err error) {
	temp, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, false, err
	}
	if o.Share == "" {
		o.Share = temp
	}
	o.hand = filepath.Join(temp, "hand.sock")
	m = &Machine{Options: o, temp: temp}
	ctx, m.stop = context.WithCancel(ctx)
	if err = o.writeCommand(); err == nil {
		err = m.boot(ctx)
	}
	if err != nil {
		started = m.qemu != nil && m.qemu.started()
		return nil, started, errors.Join(err, m.Stop())
	}
	return m, true, nil
}

// boot returns when the hand answers.
func (m *Machine) boot(ctx context.Context) error {
	// QEMU connects as it starts: no call is sent to a port without a host.
	listener, err := net.Listen("unix", m.Options.hand)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	if m.qemu, err = m.Options.launch(ctx, m.temp); err != nil {
		return err
	}
	connected := make(chan struct{})
	var connectErr error
	go func() {
		defer close(connected)
		var conn net.Conn
		if conn, connectErr = listener.Accept(); connectErr == nil {
			m.client = rpc.NewClient(conn)
			connectErr = m.ping()
		}
	}()
	timeout := ctx
	if m.Options.Timeout != 0 {
		var cancel context.CancelFunc
		timeout, cancel = context.WithTimeout(ctx, m.Options.Timeout)
		defer cancel()
	}
	select {
	case <-connected:
		err = connectErr
	case <-timeout.Done():
		err = timeout.Err()
	case <-m.qemu.ended:
		err = errors.New("QEMU ended")
	}
	if err != nil {
		_ = listener.Close()
		m.stop()
		<-m.qemu.ended
		<-connected
		return fmt.Errorf("boot a guest: %w; the end of its console:\n%s", err, tail(m.qemu.log(), 2000))
	}
	return nil
}

// Stop ends the guest at once, and removes what this machine has of it.
func (m *Machine) Stop() error {
	m.stop()
	if m.qemu != nil {
		<-m.qemu.ended
	}
	if m.client != nil {
		// It has ended with QEMU.
		_ = m.client.Close()
	}
	return errors.Join(os.Remove(filepath.Join(m.Options.Share, "command")), os.RemoveAll(m.temp))
}

// Console is what the guest's kernel and its first programs wrote.
func (m *Machine) Console() string { return m.qemu.log() }
