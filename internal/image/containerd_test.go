package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// checkRuns imports the image into a real containerd and runs the agent in it,
// with a root that is read-only.
func checkRuns(t *testing.T, archive string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("containerd needs root: run `sudo -E go test ...`")
	}
	dir, err := kubetest.Binaries("containerd", "containerd-shim-runc-v2", "ctr", "runc")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	c := startContainerd(t, dir)
	if out, ierr := c.ctr("images", "import", archive); ierr != nil {
		t.Fatalf("import: %v: %s", ierr, out)
	}
	const image = "example.com/multiplexer:1.2.3"
	if out, lerr := c.ctr("images", "ls", "-q"); lerr != nil || !strings.HasSuffix("\n"+out, "\n"+image+"\n") { // before it, warnings
		t.Errorf("images: %v: %q, want %s", lerr, out, image)
	}
	out, err := c.ctr("run", "--rm", "--read-only", image, "test", "/usr/bin/multiplexerd", "--version")
	if err != nil || !strings.Contains(out, "multiplexerd version 1.2.3") {
		t.Errorf("run: %v: %s", err, out)
	}
}

// containerd is one that runs for a test.
type containerd struct {
	dir, socket string
	t           *testing.T
}

func startContainerd(t *testing.T, binaries string) *containerd {
	t.Helper()
	home, err := os.MkdirTemp("", "mx") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	c := &containerd{dir: binaries, socket: filepath.Join(home, "c.sock"), t: t}
	config := filepath.Join(home, "config.toml")
	content := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(home, "root"), filepath.Join(home, "state"), c.socket)
	if err = os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	// A file: who is started by containerd may outlive it, and would hold a pipe open.
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(binaries, "containerd"), "--config", config)
	cmd.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if content, rerr := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("containerd: %v: %s", rerr, content[max(0, len(content)-4096):])
		}
		if rerr := os.RemoveAll(home); rerr != nil {
			t.Error(rerr)
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, verr := c.ctr("version")
		if verr == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("containerd does not answer: %v: %s", verr, out)
		}
	}
}

func (c *containerd) ctr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.dir, "ctr"), append([]string{"--address", c.socket}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
