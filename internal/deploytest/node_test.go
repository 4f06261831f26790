package deploytest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// The chart and the image on a real node: helm installs, a change of values
// adds a right, and helm takes everything off again.
func TestOnANode(t *testing.T) {
	c := nodetest.Start(t)
	n, err := c.AddNode("node-a", withoutMultiplexer)
	if err != nil {
		t.Fatal(err)
	}
	if err = importImage(t, n); err != nil {
		t.Fatal(err)
	}
	r := release{c.RequireKubeconfig(t, c.Admin())}
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	values := []string{"--set", "image.tag=test", "--set", "apiServer.host=127.0.0.1", "--set", "apiServer.port=" + port}
	if out, herr := r.helm(t, append([]string{"install", "multiplexer", chart, "--wait", "--timeout", "2m"}, values...)...); herr != nil {
		t.Fatalf("helm install: %v: %s", herr, out)
	}
	want := []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}
	checkAgent(t, n, want, "ro")
	for _, file := range []string{"/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer"} {
		if _, err = os.Stat(n.Path(file)); err != nil {
			t.Errorf("after helm install: %v", err)
		}
	}
	values = append(values, "--set", "devicePlugin.provisioning=true")
	if out, herr := r.helm(t, append([]string{"upgrade", "multiplexer", chart, "--wait", "--timeout", "2m"}, values...)...); herr != nil {
		t.Fatalf("helm upgrade: %v: %s", herr, out)
	}
	const netAdmin = "0000000000001000"
	checkAgent(t, n, []string{"CapEff:\t" + netAdmin, "CapBnd:\t" + netAdmin, want[2], want[3]}, "rw")
	if out, herr := r.helm(t, "uninstall", "multiplexer", "--wait", "--timeout", "2m"); herr != nil {
		t.Fatalf("helm uninstall: %v: %s", herr, out)
	}
	for _, file := range []string{"/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer"} {
		if _, err = os.Stat(n.Path(file)); !os.IsNotExist(err) {
			t.Errorf("after helm uninstall: %s: %v", file, err)
		}
	}
	if answer, derr := c.Do("GET", kind, nil); derr != nil || answer.Err() != nil {
		t.Errorf("the kind: %v, HTTP %d", derr, answer.Code)
	}
}

// withoutMultiplexer gives a node its cluster network alone.
func withoutMultiplexer(n *nodetest.Node) error {
	if err := n.InstallPlugin(nil); err != nil {
		return err
	}
	_, err := n.Output("rm", "/opt/cni/bin/multiplexer", "/etc/cni/net.d/00-multiplexer.conflist")
	return err
}

// importImage builds the image of these sources and gives it to a node.
func importImage(t *testing.T, n *nodetest.Node) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	cmd := exec.CommandContext(t.Context(), "go", "run", "./internal/image", "-arch", runtime.GOARCH, "-version", "test", "-o", file)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the image: %w: %s", err, out)
	}
	if err := n.Copy(file, "/root/image.tar"); err != nil {
		return err
	}
	binaries, err := kubetest.Binaries("ctr")
	if err != nil {
		return err
	}
	if binaries, err = filepath.Abs(binaries); err != nil {
		return err
	}
	_, err = n.Output(filepath.Join(binaries, "ctr"), "--namespace", "k8s.io", "images", "import", "/root/image.tar")
	return err
}

// checkAgent looks at what the kernel says of the agent's process, and at how
// it sees /sys.
func checkAgent(t *testing.T, n *nodetest.Node, status []string, sys string) {
	t.Helper()
	pid, err := n.Output("pgrep", "-n", "-x", "multiplexerd")
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + string(bytes.TrimSpace(pid))
	lines, err := n.Output("cat", proc+"/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range status {
		if !strings.Contains("\n"+string(lines), "\n"+want+"\n") {
			t.Errorf("want %q in %s", want, lines)
		}
	}
	mounts, err := n.Output("cat", proc+"/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mounts), "sysfs /sys sysfs "+sys+",") {
		t.Errorf("want /sys %s in %s", sys, mounts)
	}
}
