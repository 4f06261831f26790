package delegate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeDelay is how long the pipes of an ended delegate are read on, should a
// daemon that it left behind hold them open.
const pipeDelay = 500 * time.Millisecond

// process is a running delegate. All waiting for it goes through Go's poller:
// its output, and its end by a pidfd. os/exec would hold a thread in a system
// call for the whole run, and fork a process of its own to probe for pidfds
// (docs/adr/0006).
type process struct {
	pid    int
	end    *os.File    // a pidfd, readable once the process has ended; nil where the kernel has none
	pipes  [2]*os.File // the read ends of its stdout and stderr
	mu     sync.Mutex
	ended  bool // and its exit status taken
	status syscall.WaitStatus
}

// spawn starts an executable in a process group of its own. Its input is
// complete when it starts; guard, if any, is its descriptor 3.
func spawn(path string, stdin []byte, environ []string, guard *os.File) (*process, error) {
	input, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // older than 6.3, where it may be executable for nobody's good
		input, err = unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("memory for standard input: %w", err)
	}
	defer unix.Close(input)
	if _, err = unix.Pwrite(input, stdin, 0); err != nil {
		return nil, fmt.Errorf("memory for standard input: %w", err)
	}
	p := &process{}
	files := []uintptr{uintptr(input)}
	for i := range p.pipes {
		var ends [2]int
		if err = unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return nil, errors.Join(fmt.Errorf("pipe: %w", err), p.close())
		}
		defer unix.Close(ends[1])
		if err = unix.SetNonblock(ends[0], true); err != nil {
			return nil, errors.Join(fmt.Errorf("pipe: %w", err), unix.Close(ends[0]), p.close())
		}
		p.pipes[i] = os.NewFile(uintptr(ends[0]), "pipe")
		files = append(files, uintptr(ends[1]))
	}
	if guard != nil {
		files = append(files, guard.Fd())
	}
	p.pid, err = syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{
		Env: environ, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	if fd, pidfdErr := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK); pidfdErr == nil {
		p.end = os.NewFile(uintptr(fd), "pidfd")
	}
	return p, nil
}

// follow takes what the process prints until it has ended. When ctx ends
// first, the process is killed with its group.
func (p *process) follow(ctx context.Context, stdout, stderr *limited) (syscall.WaitStatus, error) {
	read := make(chan error, len(p.pipes))
	for i, to := range []*limited{stdout, stderr} {
		go func() { read <- to.take(p.pipes[i]) }()
	}
	stop := context.AfterFunc(ctx, p.kill)
	err := p.wait()
	stop()
	for _, pipe := range p.pipes {
		err = errors.Join(err, pipe.SetReadDeadline(time.Now().Add(pipeDelay)))
	}
	for range p.pipes {
		err = errors.Join(err, <-read)
	}
	return p.status, errors.Join(err, p.close())
}

// take reads until the end of the pipe, or its deadline.
func (l *limited) take(pipe *os.File) error {
	_, err := io.Copy(l, pipe)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // a daemon holds it open
	}
	return err
}

// wait takes the exit status.
func (p *process) wait() error {
	var failed error
	reaped := func(uintptr) bool {
		failed = p.reap()
		return p.ended || failed != nil
	}
	if p.end != nil {
		if conn, err := p.end.SyscallConn(); err == nil && conn.Read(reaped) == nil {
			return failed
		}
	}
	for !reaped(0) { // a kernel older than 5.10 has no pidfd that Go can wait for
		time.Sleep(time.Millisecond)
	}
	return failed
}

// reap takes the exit status if there is one.
func (p *process) reap() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		pid, err := syscall.Wait4(p.pid, &p.status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", p.pid, err)
		}
		p.ended = pid == p.pid
		return nil
	}
}

// kill ends the process and its group, unless its exit status was taken: the
// number may be somebody else's by then.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = unix.Kill(-p.pid, unix.SIGKILL) // it fails when the group has ended
	}
}

func (p *process) close() error {
	var err error
	for _, f := range []*os.File{p.pipes[0], p.pipes[1], p.end} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
