package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// process is a program that runs until stop, or until this process ends in
// whatever way.
type process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	// done is closed when it has ended.
	done chan struct{}
}

// startProcess runs a program in dir. What it writes is appended to
// dir/NAME.log.
func startProcess(path, dir string, args ...string) (*process, error) {
	name := filepath.Base(path)
	p := &process{name: name, logPath: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = dir
	// No proxy, and none of the ETCD_ variables.
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err = <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// run keeps its thread as long as the process lives: the kernel sends the
// parent-death signal when the thread that forked ends, and threads of tests
// that enter namespaces do.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	// How it ended is in its log.
	_ = p.cmd.Wait()
	close(p.done)
}

// signal reports an error also when the process has ended.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// stop kills the process and waits for its end.
func (p *process) stop() error {
	err := p.cmd.Process.Kill()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail returns the end of what the process wrote.
func (p *process) tail() string {
	const most = 4000
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	if len(content) > most {
		content = content[len(content)-most:]
	}
	return string(bytes.TrimSpace(content))
}
