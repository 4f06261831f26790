package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/agenttest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// daemon is the agent as a process of its own.
type daemon struct {
	cmd     *exec.Cmd
	address string // of its HTTP server
	ended   chan struct{}
}

// socket is where the agent listens.
func (s *stand) socket() string { return filepath.Join(s.dir, "agent.sock") }

// startAgent starts the agent, with more flags, and returns when it is ready.
func (s *stand) startAgent(ctx context.Context, publish string, more ...string) (*daemon, error) {
	k, err := s.startKube()
	if err != nil {
		return nil, err
	}
	binary, err := nettest.AgentPath()
	if err != nil {
		return nil, err
	}
	p := &daemon{ended: make(chan struct{})}
	if p.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	args := []string{
		"run", "--node-name", agenttest.Name, "--kubeconfig", k.kubeconfig, "--socket", s.socket(),
		"--state-dir", s.state(), "--pod-resources-socket", filepath.Join(s.dir, "no-kubelet.sock"),
		"--metrics-address", p.address, "--publish", publish, "--log-level", "warn",
	}
	p.cmd = exec.Command(binary, append(args, more...)...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err = <-started; err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	if err = p.waitReady(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// run keeps its thread as long as the process lives: with that thread, the
// process would die, and threads that enter namespaces end.
func (p *daemon) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // how it ended is on stderr
		close(p.ended)
	}
}

func (p *daemon) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

func (p *daemon) waitReady(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := p.get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return fmt.Errorf("the agent ended: %s", p.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent is not ready: %w", err)
		}
	}
}

func (p *daemon) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d: %s", answer.StatusCode, raw)
	}
	return string(raw), err
}

// metric is a value of /metrics; 0 if there is none yet.
func (p *daemon) metric(ctx context.Context, name string) (float64, error) {
	body, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, fmt.Errorf("ask the agent for its metrics: %w", err)
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port for the agent: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}
