package killtest

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// disturbance is what a row does to all nodes. amid is called when the thing
// is down, or as soon as something can be done on a node again.
type disturbance struct {
	name string
	do   func(amid func() error) error
	// plugin: it needs a call of the plugin, see [column].
	plugin, reboot bool
}

// disturbances are the rows.
func disturbances() []disturbance {
	agent := "multiplexerd"
	rows := []disturbance{
		{name: "agent kill -9", do: func(amid func() error) error { return errors.Join(signalled(agent, unix.SIGKILL), amid()) }},
		{name: "agent restart", do: func(amid func() error) error { return errors.Join(signalled(agent, unix.SIGTERM), amid()) }},
		{name: "agent down", do: func(amid func() error) error {
			down := inBackground(func() error { return keptDown(agent) })
			return errors.Join(amid(), <-down)
		}},
	}
	for _, p := range []struct {
		name string
		of   func(*bed) *nodetest.Process
	}{
		{"kubelet", func(b *bed) *nodetest.Process { return b.Kubelet }},
		{"containerd", func(b *bed) *nodetest.Process { return b.Containerd }},
	} {
		all := func(f func(*nodetest.Process) error) func() error {
			return func() error { return each(beds, func(b *bed) error { return f(p.of(b)) }) }
		}
		kill, stop, start := all((*nodetest.Process).Kill), all((*nodetest.Process).Stop), all((*nodetest.Process).Start)
		rows = append(rows, threeWays(p.name, kill, stop, start)...)
	}
	rows = append(rows, threeWays("API server", func() error { return cluster.StopAPI() }, func() error { return cluster.EndAPI() }, func() error { return cluster.StartAPI() })...)
	return append(rows,
		disturbance{name: "plugin kill -9", plugin: true, do: func(amid func() error) error {
			return errors.Join(pluginKilled(), amid())
		}},
		disturbance{name: "node reboot", reboot: true, do: func(amid func() error) error { return errors.Join(rebooted(), amid()) }},
	)
}

// threeWays are the rows of something that this test starts again.
func threeWays(name string, kill, stop, start func() error) []disturbance {
	return []disturbance{
		{name: name + " kill -9", do: func(amid func() error) error { return inOrder(kill, amid, start) }},
		{name: name + " restart", do: func(amid func() error) error { return inOrder(stop, amid, start) }},
		{name: name + " down", do: func(amid func() error) error {
			return inOrder(kill, amid, func() error { time.Sleep(limits().outage); return nil }, start)
		}},
	}
}

// signalled ends a program on every node; who started it starts it again.
func signalled(name string, s unix.Signal) error {
	return each(beds, func(b *bed) error { return b.signalled(name, s) })
}

// signalled ends a program. One that has just ended comes back first.
func (b *bed) signalled(name string, s unix.Signal) error {
	return b.until("there is a "+name+" to end", func() error {
		pids, err := b.Signal(name, s)
		if err == nil && len(pids) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
}

// keptDown ends a program on every node, and again whenever it comes back.
func keptDown(name string) error {
	return each(beds, func(b *bed) error {
		if err := b.signalled(name, unix.SIGKILL); err != nil {
			return err
		}
		for end := time.Now().Add(limits().outage); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
			if _, err := b.Signal(name, unix.SIGKILL); err != nil {
				return err
			}
		}
		return nil
	})
}

// pluginKilled kills the plugin on the nodes where calls of it wait. One whose
// time was over before the others came is made again, and waits again.
func pluginKilled() error {
	return each(beds, func(b *bed) error {
		if b.calls == 0 {
			return nil
		}
		return b.until("the calls of the plugin are killed", func() error {
			waiting, err := b.Find("gate")
			if err == nil && len(waiting) < b.calls {
				err = fmt.Errorf("%d calls wait, want %d", len(waiting), b.calls)
			}
			if err != nil {
				return err
			}
			pids, err := b.Signal("multiplexer", unix.SIGKILL)
			if err == nil && len(pids) < b.calls {
				err = fmt.Errorf("%d calls waited, and %d processes of the plugin were killed", b.calls, len(pids))
			}
			return err
		})
	})
}

// rebooted takes the power from all nodes at once and gives it back.
func rebooted() error {
	err := each(beds, func(b *bed) error {
		var err error
		if b.boot, err = b.bootID(); err != nil {
			return err
		}
		return b.Crash()
	})
	if err != nil {
		return err
	}
	for _, b := range beds {
		if err = b.Boot(); err != nil {
			return err
		}
		b.rebooted = true
	}
	return nil
}
