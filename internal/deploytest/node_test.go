package deploytest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	placed := func(want bool, when string) {
		t.Helper()
		for _, file := range []string{"/etc/cni/net.d/00-multiplexer.conflist", "/opt/cni/bin/multiplexer"} {
			if _, serr := os.Stat(n.Path(file)); (serr == nil) != want {
				t.Errorf("%s: %s: %v", when, file, serr)
			}
		}
	}
	r := release{c.RequireKubeconfig(t, c.Admin())}
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	values := []string{"--set", "image.tag=test", "--set", "apiServer.host=127.0.0.1", "--set", "apiServer.port=" + port, "--set", "agent.clusterCIDRs={10.244.0.0/16}"}
	install := func() {
		t.Helper()
		if out, herr := r.helm(t, append([]string{"install", "multiplexer", chart, "--wait", "--timeout", "2m"}, values...)...); herr != nil {
			t.Fatalf("helm install: %v: %s", herr, out)
		}
		placed(true, "after helm install")
	}
	install()
	want := []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}
	checkAgent(t, n, want, "ro")
	if info, serr := os.Stat(n.Path("/var/lib/cni/multiplexer")); serr != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory, which kubelet made: %v, mode %v", serr, info.Mode())
	}
	lookFrom(t, c, n)
	comeAgain(t, c, n, func() {
		if out, herr := r.helm(t, "uninstall", "multiplexer", "--no-hooks", "--wait", "--timeout", "2m"); herr != nil {
			t.Fatalf("helm uninstall --no-hooks: %v: %s", herr, out)
		}
		install()
	})
	values = append(values, "--set", "devicePlugin.provisioning=true")
	if out, herr := r.helm(t, append([]string{"upgrade", "multiplexer", chart, "--wait", "--timeout", "2m"}, values...)...); herr != nil {
		t.Fatalf("helm upgrade: %v: %s", herr, out)
	}
	const netAdmin = "0000000000001000"
	checkAgent(t, n, []string{"CapEff:\t" + netAdmin, "CapBnd:\t" + netAdmin, want[2], want[3]}, "rw")
	uninstall := func() {
		t.Helper()
		if out, herr := r.helm(t, "uninstall", "multiplexer", "--wait", "--timeout", "2m"); herr != nil {
			t.Fatalf("helm uninstall: %v: %s", herr, out)
		}
		placed(false, "after helm uninstall")
	}
	uninstall()
	// It comes again after an uninstall that was finished, and goes again.
	install()
	keepMultusPod(t, n, func() {
		if out, herr := r.helm(t, "uninstall", "multiplexer", "--timeout", "15s"); herr == nil {
			t.Errorf("helm uninstall, while a pod that Multus attached lives: %s", out)
		}
		placed(true, "while a pod that Multus attached lives")
	})
	uninstall()
	if answer, derr := c.Do("GET", kind, nil); derr != nil || answer.Err() != nil {
		t.Errorf("the kind: %v, HTTP %d", derr, answer.Code)
	}
}

// keepMultusPod has a node with a pod that Multus attached during fn.
func keepMultusPod(t *testing.T, n *nodetest.Node, fn func()) {
	t.Helper()
	const netns, records = "/run/netns/cni-of-multus", "/var/lib/cni/multus"
	files := map[string]string{netns: ""}
	var list []string
	for _, network := range [][2]string{{"cluster", "eth0"}, {"storage", "net1"}} {
		name, nic := network[0], network[1]
		conf := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":%q,"type":"ptp"}`, name))
		list = append(list, fmt.Sprintf(`{"Name":%q,"Bytes":%q,"ifnameRequest":%q}`, name, conf, nic))
		files[records+"/results/"+name+"-web1-"+nic] = fmt.Sprintf(
			`{"kind":"cniCacheV1","containerId":"web1","ifName":%q,"networkName":%q,"netns":%q,"config":%q,"result":{}}`, nic, name, netns, conf)
	}
	files[records+"/web1"] = "[" + strings.Join(list, ",") + "]"
	for path, content := range files {
		if err := n.Write(path, content); err != nil {
			t.Fatal(err)
		}
	}
	fn()
	if _, err := n.Output("rm", netns); err != nil {
		t.Fatal(err)
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
	if err := nodetest.BuildProductImage("test", file); err != nil {
		return err
	}
	return n.ImportImage(file)
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
