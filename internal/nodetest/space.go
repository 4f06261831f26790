package nodetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// The namespaces of a node, in the order in which they are entered: where the
// files of /proc are seen comes last.
const nodeSpaces = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWNS

// space is a set of namespaces that a process holds, which the kernel kills
// together with this one. With a PID namespace, everything in them goes too.
type space struct {
	flags uintptr
	init  *exec.Cmd
	done  chan struct{}
}

// newSpace starts the program inside namespaces of its own.
func newSpace(program string, flags uintptr) (*space, error) {
	s := &space{flags: flags, init: exec.Command(program), done: make(chan struct{})}
	s.init.Env = []string{}
	s.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when this thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.init.Start()
		started <- err
		if err == nil {
			_ = s.init.Wait() // it was killed
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	return s, nil
}

// close kills everything in the namespaces, and waits for the first process:
// in a PID namespace that one is the last to go.
func (s *space) close() error {
	if err := s.init.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the first process: %w", err)
	}
	<-s.done
	return nil
}

func (s *space) pid() int { return s.init.Process.Pid }

// do runs f on a thread inside the namespaces. A process that f starts is in
// all of them; it must not ask for a parent-death signal: the thread dies.
func (s *space) do(f func() error) error {
	select {
	case <-s.done:
		return errors.New("the node is off")
	default:
	}
	return nettest.OnThread(func() error {
		if err := s.enter(); err != nil {
			return fmt.Errorf("enter namespaces: %w", err)
		}
		return f()
	})
}

func (s *space) enter() error {
	names := []struct {
		flag uintptr
		name string
	}{{unix.CLONE_NEWPID, "pid"}, {unix.CLONE_NEWIPC, "ipc"}, {unix.CLONE_NEWUTS, "uts"}, {unix.CLONE_NEWNET, "net"}, {unix.CLONE_NEWNS, "mnt"}}
	// A thread that shares its root directory with others may not move it.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, n := range names {
		if s.flags&n.flag == 0 {
			continue
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", s.pid(), n.name))
		if err != nil {
			return err
		}
		err = unix.Setns(int(file.Fd()), int(n.flag))
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	return nil
}

// output runs a program inside and returns what it wrote to stdout.
func (s *space) output(env []string, name string, args ...string) ([]byte, error) {
	var out []byte
	err := s.do(func() error {
		cmd := exec.Command(name, args...)
		cmd.Env = env
		var err error
		out, err = cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("%s: %w: %s", cmd, err, exit.Stderr)
		}
		return err
	})
	return out, err
}
