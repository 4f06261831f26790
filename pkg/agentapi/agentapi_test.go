package agentapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// serve starts a server and returns its socket.
func serve(t *testing.T, s *Server) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "agent.sock")
	listener, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if failed := errors.Join(<-ended, os.RemoveAll(dir)); failed != nil {
			t.Error(failed)
		}
	})
	return socket
}

// raw serves a socket with a function for each connection, which stays open
// until the test's end unless the function closes it.
func raw(t *testing.T, answer func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan []net.Conn)
	t.Cleanup(func() {
		_ = listener.Close()
		for _, conn := range <-ended {
			_ = conn.Close() // the function may have done it
		}
	})
	go func() {
		var all []net.Conn // one that nobody refers to is closed by the garbage collector
		for {
			conn, acceptErr := listener.Accept()
			if acceptErr != nil {
				ended <- all
				return
			}
			all = append(all, conn)
			go answer(conn)
		}
	}()
	return socket
}

func TestAskAndAnswer(t *testing.T) {
	socket := serve(t, &Server{Busy: 2, Queue: 2, Answer: func(ctx context.Context, r *Request) (*Known, error) {
		if _, limited := ctx.Deadline(); !limited || r.Budget <= 0 || r.Budget > Patience {
			t.Errorf("the budget is %s", r.Budget)
		}
		switch r.Pod.Name {
		case "invalid":
			return nil, network.Invalid.Errorf("definition %q is wrong", "shop/a")
		case "plain":
			return nil, errors.New("the cache is empty")
		}
		return &Known{Definitions: []Definition{{Reference: r.Networks[0], Config: `{"type":"x"}`}}, NamespaceNetworks: r.Pod.Annotations["a"]}, nil
	}})
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %s", err, info.Mode())
	}
	known, err := Ask(t.Context(), socket, Request{Pod: Pod{Annotations: map[string]string{"a": "b"}}, Networks: []Reference{{"shop", "a"}}})
	if err != nil || known.Definitions[0].Name != "a" || known.NamespaceNetworks != "b" {
		t.Errorf("%v %+v", err, known)
	}
	for pod, kind := range map[string]network.Kind{"invalid": network.Invalid, "plain": network.Again} {
		if _, err = Ask(t.Context(), socket, Request{Pod: Pod{Name: pod}}); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want kind %q", pod, err, kind)
		}
	}
	// A new agent takes the socket over while the old one still listens.
	again, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// Whatever an agent does instead of answering, the plugin says "try again
// later", and in time.
func TestAgentsThatDoNotAnswer(t *testing.T) {
	reply := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = read(c, &Request{})
			_, _ = c.Write([]byte(text))
			_ = c.Close()
		}
	}
	for name, test := range map[string]struct {
		socket string
		want   string
	}{
		"absent":       {filepath.Join(t.TempDir(), "none"), "no such file"},
		"hangs":        {raw(t, func(net.Conn) {}), late},
		"hangs up":     {raw(t, func(c net.Conn) { _ = c.Close() }), ""},
		"no word":      {raw(t, reply("")), "without a word"},
		"no JSON":      {raw(t, reply("hello")), "decode"},
		"empty":        {raw(t, reply(`{"protocol":1}`)), "empty"},
		"older":        {raw(t, reply(`{"protocol":0,"known":7}`)), "speaks protocol 0, the plugin 1: upgrade the agent (multiplexerd) to the plugin's version"},
		"newer":        {raw(t, reply(`{"protocol":2,"known":[]}`)), "speaks protocol 2, the plugin 1: upgrade the plugin on this node to the agent's version"},
		"half a reply": {raw(t, reply(`{"protocol":1,"known":{`)), "decode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			var err error
			if test.want == late {
				_, err = Ask(t.Context(), test.socket, Request{})
			} else {
				err = answered(t, test.socket)
			}
			if !errors.Is(err, network.Again) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if took := time.Since(start); took > inTime {
				t.Errorf("took %s", took)
			}
		})
	}
}

// inTime is how long a call may take that waits for somebody in vain, on a busy
// machine.
const inTime = 30 * time.Second

// A plugin with less time left than its patience waits no longer than that.
func TestAskWithLittleTime(t *testing.T) {
	socket := raw(t, func(net.Conn) {})
	var took time.Duration
	for range 10 { // where the machine stood still, its clock says nothing
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		_, err := Ask(ctx, socket, Request{})
		took = time.Since(start)
		cancel()
		if err == nil {
			t.Fatal("who hangs has answered")
		}
		if took < Patience/2 {
			return
		}
	}
	t.Errorf("a plugin with 50 ms left waited %s", took)
}

// answered is Ask, again where the machine stood still for all the patience
// that a plugin has with an agent.
func answered(t *testing.T, socket string) (err error) {
	for range 10 {
		if _, err = Ask(t.Context(), socket, Request{}); err == nil || !strings.Contains(err.Error(), late) {
			break
		}
	}
	return err
}

// late is what a plugin says of an agent that has not answered.
const late = "no answer in time"

// Requests are answered a few at a time; when too many wait, the next is sent
// away at once. Each gets a reply.
func TestServerIsBounded(t *testing.T) {
	release, now := make(chan struct{}), make(chan struct{}, 64)
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo() // the server ends when all that it took is answered
	socket := serve(t, &Server{Busy: 2, Queue: 3, Answer: func(context.Context, *Request) (*Known, error) {
		now <- struct{}{}
		<-release
		return &Known{}, nil
	}})
	results := make(chan error, 16)
	for range 6 {
		go func() {
			_, err := Ask(t.Context(), socket, Request{Pod: Pod{Annotations: map[string]string{"a": strings.Repeat("x", 1<<16)}}})
			results <- err
		}()
	}
	if err := <-results; err == nil || !strings.Contains(err.Error(), "5 requests wait already") {
		t.Fatalf("the first of six ends with %v, and is not sent away", err)
	}
	<-now
	<-now
	if len(now) > 0 {
		t.Error("more than two are answered at once")
	}
	letGo()
	for range 5 {
		// Where the machine stood still meanwhile, the plugins' time is over.
		if err := <-results; err != nil && !strings.Contains(err.Error(), late) && !strings.Contains(err.Error(), "without a word") {
			t.Error(err)
		}
	}
}

// Others than root are not answered, even where the socket's mode lets them.
func TestOthersAreNotAnswered(t *testing.T) {
	if socket := os.Getenv("AGENTAPI_ASK"); socket != "" {
		_, err := Ask(t.Context(), socket, Request{})
		fmt.Println("asked:", err)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	socket := serve(t, &Server{Busy: 1, Answer: func(context.Context, *Request) (*Known, error) {
		t.Error("a stranger is answered")
		return &Known{}, nil
	}})
	for path, mode := range map[string]os.FileMode{socket: 0o666, filepath.Dir(socket): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(filepath.Dir(socket), "test")
	binary, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, binary, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestOthersAreNotAnswered$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "AGENTAPI_ASK="+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "asked: agent at") {
		t.Errorf("%v\n%s", err, out)
	}
}
