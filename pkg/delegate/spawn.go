package delegate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pipeDelay is how long the pipes of an ended delegate are read on, should
	// a daemon that it left behind hold them open.
	pipeDelay = 500 * time.Millisecond
	// look is how often the time is looked at while a delegate prints nothing.
	look = 50 * time.Millisecond
	// lookWithoutPidfd is how often a delegate that closed its pipes is looked
	// at on kernels older than 5.3, which cannot tell its end.
	lookWithoutPidfd = 2 * time.Millisecond
)

// process is a running delegate. os/exec would serve, but for a goroutine and
// a thread for each pipe and a process of its own to probe for pidfds: a
// third of what a whole ADD costs (docs/adr/0006).
type process struct {
	pid    int
	end    int    // a pidfd, readable once it has ended; -1 where the kernel has none
	pipes  [2]int // the read ends of its stdout and stderr; -1 once at their end
	exited bool
	status syscall.WaitStatus
}

// spawn starts an executable in a process group of its own. Its input is
// complete when it starts; guard, if any, is its descriptor 3.
func spawn(path string, stdin []byte, environ []string, guard *os.File) (*process, error) {
	input, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for standard input: %w", err)
	}
	defer unix.Close(input)
	if _, err = unix.Pwrite(input, stdin, 0); err != nil {
		return nil, fmt.Errorf("memory for standard input: %w", err)
	}
	var stdout, stderr [2]int
	if err = unix.Pipe2(stdout[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(stdout[1])
	if err = unix.Pipe2(stderr[:], unix.O_CLOEXEC); err != nil {
		unix.Close(stdout[0])
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(stderr[1])
	files := []uintptr{uintptr(input), uintptr(stdout[1]), uintptr(stderr[1])}
	if guard != nil {
		files = append(files, guard.Fd())
	}
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{
		Env: environ, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		unix.Close(stdout[0])
		unix.Close(stderr[0])
		return nil, err
	}
	end, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		end = -1
	}
	return &process{pid: pid, end: end, pipes: [2]int{stdout[0], stderr[0]}}, nil
}

// follow reads what the process prints until it has ended. When ctx ends
// first, the process is killed with its group.
func (p *process) follow(ctx context.Context, stdout, stderr *limited) (syscall.WaitStatus, error) {
	defer p.close()
	to := [2]*limited{stdout, stderr}
	var giveUp time.Time // for the pipes of a process that has ended
	for killed := false; !p.exited || (p.open() && time.Now().Before(giveUp)); {
		if err := p.read(to); err != nil {
			return 0, errors.Join(err, p.kill(), p.wait(0))
		}
		if p.exited {
			continue
		}
		if ctx.Err() != nil && !killed {
			killed = true
			if err := p.kill(); err != nil {
				return 0, err
			}
		}
		if err := p.wait(unix.WNOHANG); err != nil {
			return 0, err
		}
		giveUp = time.Now().Add(pipeDelay)
	}
	return p.status, nil
}

func (p *process) open() bool { return p.pipes != [2]int{-1, -1} }

// read takes what the pipes hold. It waits for that, or for the end of the
// process, but not for long.
func (p *process) read(to [2]*limited) error {
	ready := []unix.PollFd{
		{Fd: int32(p.pipes[0]), Events: unix.POLLIN}, {Fd: int32(p.pipes[1]), Events: unix.POLLIN}, {Fd: int32(p.end), Events: unix.POLLIN},
	}
	pause := look
	if p.end < 0 && !p.open() {
		pause = lookWithoutPidfd
	}
	if p.exited {
		ready[2].Fd = -1
	}
	if _, err := unix.Poll(ready, int(pause.Milliseconds())); errors.Is(err, unix.EINTR) {
		return nil
	} else if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	buffer := make([]byte, 16<<10)
	for i := range p.pipes {
		if ready[i].Revents == 0 {
			continue
		}
		got, err := unix.Read(p.pipes[i], buffer)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case got == 0:
			unix.Close(p.pipes[i])
			p.pipes[i] = -1
		default:
			_, _ = to[i].Write(buffer[:got]) // it never fails
		}
	}
	return nil
}

// kill ends the process and its group.
func (p *process) kill() error {
	if p.exited {
		return nil // the group's number may be somebody else's by now
	}
	if err := unix.Kill(-p.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", p.pid, err)
	}
	return nil
}

// wait takes the exit status, once there is one.
func (p *process) wait(options int) error {
	for !p.exited {
		pid, err := syscall.Wait4(p.pid, &p.status, options, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", p.pid, err)
		case pid == 0:
			return nil
		default:
			p.exited = true
		}
	}
	return nil
}

func (p *process) close() {
	for _, fd := range []int{p.pipes[0], p.pipes[1], p.end} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
