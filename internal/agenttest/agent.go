package agenttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// agent is a running process of multiplexerd.
type agent struct {
	cmd     *exec.Cmd
	log     *buffer
	address string
	ended   chan struct{}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// StartAgent starts the agent; WaitReady waits until it is of use.
func (n *Node) StartAgent() {
	n.Helper()
	binary := n.Program
	if binary == "" {
		var err error
		binary, err = nettest.AgentPath()
		n.must(err)
	}
	a := &agent{log: &buffer{}, ended: make(chan struct{}), address: fmt.Sprintf("127.0.0.1:%d", freePort(n))}
	args := []string{
		"run", "--node-name", Name, "--kubeconfig", n.kubeconfig, "--socket", n.Socket(), "--state-dir", n.File("state"),
		"--pod-resources-socket", n.Kubelet.Socket(), "--metrics-address", a.address, "--sweep", "1s",
	}
	a.cmd = exec.Command(binary, append(args, n.Flags...)...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go a.run(started)
	n.must(<-started)
	n.agent = a
	n.frozen.Store(false)
	n.Cleanup(func() {
		n.signal(a, syscall.SIGKILL)
		<-a.ended
		if n.Failed() {
			n.Logf("the agent's log:\n%s", a.log)
		}
	})
}

// run keeps its thread as long as the agent lives: the kernel sends the
// parent-death signal when the thread that forked ends, and threads of tests
// that enter namespaces do.
func (a *agent) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := a.cmd.Start()
	started <- err
	if err == nil {
		_ = a.cmd.Wait() // how it ended is in its state
		close(a.ended)
	}
}

func (n *Node) signal(a *agent, s syscall.Signal) {
	select {
	case <-a.ended:
	default:
		_ = a.cmd.Process.Signal(s) // it may end at this moment
	}
}

// KillAgent ends the agent without a word.
func (n *Node) KillAgent() {
	n.signal(n.agent, syscall.SIGKILL)
	<-n.agent.ended
}

// StopAgent ends the agent as kubelet does, and fails the test when it ends
// badly.
func (n *Node) StopAgent() {
	n.Helper()
	n.signal(n.agent, syscall.SIGTERM)
	select {
	case <-n.agent.ended:
	case <-time.After(30 * time.Second):
		n.Fatal("the agent does not end")
	}
	if !n.agent.cmd.ProcessState.Success() {
		n.Errorf("the agent ended with %s", n.agent.cmd.ProcessState)
	}
}

// FreezeAgent lets the agent accept and say nothing, until ThawAgent.
func (n *Node) FreezeAgent() {
	n.frozen.Store(true)
	n.signal(n.agent, syscall.SIGSTOP)
}

// ThawAgent ends FreezeAgent.
func (n *Node) ThawAgent() {
	n.signal(n.agent, syscall.SIGCONT)
	n.frozen.Store(false)
}

// AgentPid is the agent's process.
func (n *Node) AgentPid() int { return n.agent.cmd.Process.Pid }

// AgentLog is what the agent has logged.
func (n *Node) AgentLog() string { return n.agent.log.String() }

// Get asks the agent's HTTP server.
func (n *Node) Get(path string) (code int, body string) {
	ctx, cancel := context.WithTimeout(n.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.agent.address+path, http.NoBody)
	n.must(err)
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	n.must(err)
	return answer.StatusCode, string(raw)
}

// WaitReady waits until the agent is ready and has written its last word.
func (n *Node) WaitReady() {
	n.Helper()
	n.Until("the agent is ready", func() (bool, string) {
		select {
		case <-n.agent.ended:
			n.Fatalf("the agent ended: %s\n%s", n.agent.cmd.ProcessState, n.agent.log)
		default:
		}
		code, body := n.Get("/readyz")
		_, err := os.Stat(n.File("state/cluster.json"))
		return code == http.StatusOK && err == nil, fmt.Sprint(body, err)
	})
}

// Metric returns the value of a metric as it is printed, labels included.
func (n *Node) Metric(name string) string {
	_, body := n.Get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return value
		}
	}
	return ""
}

// Until polls a condition; state says how far it has come.
func (n *Node) Until(what string, condition func() (bool, string)) {
	n.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ok, state := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("waited in vain until %s: %s", what, state)
		}
	}
}
