package nodetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a program may take to end by itself.
const stopTime = 2 * time.Minute

// Process is a program of the control plane or of a node, which can be ended
// and started again. Its methods may be called from several goroutines.
type Process struct {
	name string
	path string
	args []string
	env  []string
	log  string        // the file
	at   func() *space // nil: here

	mu  sync.Mutex
	cmd *exec.Cmd
	// done is closed when cmd has ended.
	done chan struct{}
}

// Name is the program's.
func (p *Process) Name() string { return p.name }

// Start starts the program with the arguments of before.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir, cmd.Env = "/", p.env
	cmd.Stdout, cmd.Stderr = log, log
	done := make(chan struct{})
	if p.at == nil {
		err = startHere(cmd, done)
	} else {
		err = startThere(p.at(), cmd, done)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done = cmd, done
	return nil
}

// startHere keeps a thread as long as the process lives: the kernel sends the
// parent-death signal when the thread that forked ends.
func startHere(cmd *exec.Cmd, done chan<- struct{}) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its state
			close(done)
		}
	}()
	return <-started
}

// startThere needs no parent-death signal: the PID namespace ends it.
func startThere(s *space, cmd *exec.Cmd, done chan<- struct{}) error {
	if err := s.do(cmd.Start); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Running says whether the process lives.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// Pid is the process's number on this machine, 0 before the first start.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill ends the process without a word, as kill -9 does. One that has ended
// is no error.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.wait()
}

// Stop asks the process to end, and waits until it has.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.wait()
}

// Reconfigure restarts the program with more arguments.
func (p *Process) Reconfigure(args ...string) error {
	if err := p.Stop(); err != nil {
		return err
	}
	p.mu.Lock()
	p.args = append(p.args, args...)
	p.mu.Unlock()
	return p.Start()
}

// Restart is Stop and Start.
func (p *Process) Restart() error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.Start()
}

// Signal sends a signal; to a process that has ended it is an error.
func (p *Process) Signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

func (p *Process) wait() error {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-time.After(stopTime):
		return fmt.Errorf("%s does not end within %s", p.name, stopTime)
	}
}

// Log is what the process has written so far, in all its lives.
func (p *Process) Log() string { return p.logFrom(0) }

func (p *Process) logFrom(offset int64) string {
	content, err := os.ReadFile(p.log)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(content[min(offset, int64(len(content))):]))
}

// logSize is where the log ends now.
func (p *Process) logSize() int64 {
	info, err := os.Stat(p.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Tail is the end of what the process has written.
func (p *Process) Tail() string { return p.tail(0) }

// tail is the end of what was written from the offset on.
func (p *Process) tail(offset int64) string {
	const most = 6000
	text := p.logFrom(offset)
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return text
}

// environment is what every program gets: no proxy, nothing of the test's.
func environment(binaries, home string) []string {
	return []string{"PATH=" + binaries + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + home}
}
