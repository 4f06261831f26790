package nettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// pipeDelay is how long after the end of a plugin somebody may still hold its
// stdout or stderr before we stop reading.
const pipeDelay = 300 * time.Millisecond

// CNICall is one call of a CNI plugin, as a runtime makes it. A field that is
// empty leaves its variable out of the environment; Env sets what a field
// cannot, such as an empty variable ("CNI_NETNS=").
type CNICall struct {
	Bin         string   // the plugin's executable
	Command     string   // CNI_COMMAND
	ContainerID string   // CNI_CONTAINERID
	Netns       string   // CNI_NETNS
	IfName      string   // CNI_IFNAME
	Args        string   // CNI_ARGS
	Path        []string // CNI_PATH
	Stdin       []byte   // the network configuration
	Env         []string // more variables, as "KEY=value"; the last one of a key wins
}

// CNIProcess is a plugin that runs.
type CNIProcess struct {
	cmd            *exec.Cmd
	ctx            context.Context
	stdout, stderr bytes.Buffer

	done    chan struct{} // closed when outcome and err are final
	outcome Outcome
	err     error
}

// CNI runs a plugin in the node and waits for its end. A plugin that fails is
// an outcome, not an error. When ctx ends first, the plugin is killed and the
// error is that of ctx.
func (n *Node) CNI(ctx context.Context, call CNICall) (Outcome, error) {
	process, err := n.StartCNI(ctx, call)
	if err != nil {
		return Outcome{}, err
	}
	return process.Wait()
}

// StartCNI starts a plugin in the node, in a process group of its own.
func (n *Node) StartCNI(ctx context.Context, call CNICall) (*CNIProcess, error) {
	p := &CNIProcess{ctx: ctx, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, call.Bin)
	p.cmd.Env = call.environ()
	p.cmd.Stdin = bytes.NewReader(call.Stdin)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = pipeDelay
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", call.Bin, err)
	}
	go p.wait()
	return p, nil
}

// Pid returns the process id of the plugin.
func (p *CNIProcess) Pid() int { return p.cmd.Process.Pid }

// Kill sends SIGKILL to the plugin alone, not to its children, as a runtime
// does at its deadline. A plugin that has ended is no error.
func (p *CNIProcess) Kill() error { return p.Signal(syscall.SIGKILL) }

// Signal sends a signal to the plugin alone. A plugin that has ended is no
// error.
func (p *CNIProcess) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal plugin: %w", err)
	}
	return nil
}

// Done is closed when the plugin has ended and Wait would not block.
func (p *CNIProcess) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the plugin. It may be called more than once.
func (p *CNIProcess) Wait() (Outcome, error) {
	<-p.done
	return p.outcome, p.err
}

func (p *CNIProcess) wait() {
	defer close(p.done)
	err := p.cmd.Wait()
	p.outcome = Outcome{Stdout: p.stdout.Bytes(), Stderr: p.stderr.Bytes()}
	state := p.cmd.ProcessState
	if state == nil {
		p.err = fmt.Errorf("wait for plugin: %w", err)
		return
	}
	p.outcome.ExitCode = state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.outcome.Signal = status.Signal()
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.As(err, &exit), errors.Is(err, syscall.EPIPE):
		// A plugin that does not read its stdin to the end is no error here.
	case errors.Is(err, exec.ErrWaitDelay):
		p.outcome.OutputHeld = true
	case p.ctx.Err() != nil:
	default:
		p.err = fmt.Errorf("wait for plugin: %w", err)
	}
	if ctxErr := p.ctx.Err(); ctxErr != nil && p.outcome.Signal == syscall.SIGKILL {
		p.err = fmt.Errorf("plugin killed: %w", ctxErr)
	}
}

// environ builds the environment from nothing, so that no variable of the
// test's own surroundings decides what a plugin does.
func (c CNICall) environ() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env := []string{"PATH=" + path}
	for _, v := range [][2]string{
		{"CNI_COMMAND", c.Command},
		{"CNI_CONTAINERID", c.ContainerID},
		{"CNI_NETNS", c.Netns},
		{"CNI_IFNAME", c.IfName},
		{"CNI_ARGS", c.Args},
		{"CNI_PATH", strings.Join(c.Path, ":")},
	} {
		if v[1] != "" {
			env = append(env, v[0]+"="+v[1])
		}
	}
	return append(env, c.Env...)
}
