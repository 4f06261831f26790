package deploytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
	"github.com/multiplexer-cni/multiplexer/pkg/explain"
)

// inAgent runs multiplexerd in the agent's container, as kubectl exec does:
// with the container's rights, root file system, mounts and environment.
func inAgent(n *nodetest.Node, args ...string) (out string, err error) {
	binaries, err := kubetest.Binaries("ctr")
	if err == nil {
		binaries, err = filepath.Abs(binaries)
	}
	if err != nil {
		return "", err
	}
	ctr := []string{filepath.Join(binaries, "ctr"), "--namespace", "k8s.io", "task"}
	pid, err := n.Output("pgrep", "-n", "-x", "multiplexerd")
	if err != nil {
		return "", err
	}
	tasks, err := n.Output(ctr[0], append(ctr[1:], "ls")...)
	if err != nil {
		return "", err
	}
	container := ""
	for line := range strings.Lines(string(tasks)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[1] == string(bytes.TrimSpace(pid)) {
			container = fields[0]
		}
	}
	if container == "" {
		return "", fmt.Errorf("no container has process %s: %s", pid, tasks)
	}
	raw, err := n.Output(ctr[0], append(append(ctr[1:], "exec", "--exec-id", "look", container, "multiplexerd"), args...)...)
	return string(raw), err
}

// giveBootID lets the agent's container see the boot ID of its node: a
// container's /proc is its own, and has that of the machine.
func giveBootID(t *testing.T, n *nodetest.Node) {
	t.Helper()
	const file, within = "/proc/sys/kernel/random/boot_id", "/run/multiplexer/boot_id"
	pid, err := n.Output("pgrep", "-n", "-x", "multiplexerd")
	if err == nil {
		_, err = n.Output("cp", file, within)
	}
	if err == nil {
		err = n.Do(func() error {
			container, oerr := os.Open("/proc/" + string(bytes.TrimSpace(pid)) + "/ns/mnt")
			if oerr != nil {
				return oerr
			}
			defer container.Close()
			if serr := unix.Setns(int(container.Fd()), unix.CLONE_NEWNS); serr != nil {
				return serr
			}
			return unix.Mount(within, file, "", unix.MS_BIND, "")
		})
	}
	if err != nil {
		t.Fatalf("give the container the node's boot ID: %v", err)
	}
}

const definitions = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: storage, namespace: default}
spec: {config: '{"cniVersion":"1.0.0","name":"storage","type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"10.50.0.0/24"}]]}}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: files, namespace: default}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: dark, namespace: default}
spec: {config: '{"cniVersion":"1.0.0","name":"dark","type":"macvlan","master":"nowhere0"}'}
`

// row is one of `doctor -o json`.
type row struct{ Check, State, What, Remedy string }

// doctorIn is what doctor says in the agent's pod. An error is that it says
// nothing: the agent's container may be on its way.
func doctorIn(n *nodetest.Node) (rows []row, well bool, err error) {
	out, unwell := inAgent(n, "doctor", "-o", "json")
	var report struct{ Rows []row }
	if err = json.Unmarshal([]byte(out), &report); err != nil {
		return nil, false, fmt.Errorf("doctor: %w: %s: %w", err, out, unwell)
	}
	return report.Rows, unwell == nil, nil
}

// mustWell fails the test unless doctor finds nothing in the agent's pod, and
// could look at all that is there.
func mustWell(t *testing.T, n *nodetest.Node) {
	t.Helper()
	rows, well, err := doctorIn(n)
	if err != nil {
		t.Fatal(err)
	}
	if !well || len(rows) < 17 {
		t.Errorf("doctor in the pod: well %v, %d rows", well, len(rows))
	}
	absent := []string{"VFs", "PFs", "device plugin", "PF setup", "multus"} // the node has no card; the records of Multus are not mounted
	for _, r := range rows {
		if r.State != "ok" && (r.State != "n/a" || !slices.Contains(absent, r.Check)) || r.Remedy != "" {
			t.Errorf("doctor in the pod: %+v", r)
		}
	}
}

// explainIn is what explain says of a pod in the agent's pod.
func explainIn(t *testing.T, n *nodetest.Node, pod string) *explain.Explanation {
	t.Helper()
	out, err := inAgent(n, "explain", "default/"+pod, "-o", "json")
	x := &explain.Explanation{}
	if jerr := json.Unmarshal([]byte(out), x); err != nil || jerr != nil {
		t.Fatalf("explain %s: %v, %v: %s", pod, err, jerr, out)
	}
	if len(x.NotAsked) > 0 {
		t.Errorf("explain %s could not ask: %q", pod, x.NotAsked)
	}
	return x
}

// lookFrom runs doctor and explain in the agent's pod, on a node in order.
func lookFrom(t *testing.T, c *nodetest.Cluster, n *nodetest.Node) {
	t.Helper()
	giveBootID(t, n)
	mustWell(t, n)
	c.RequireApply(t, definitions)
	if err := n.Write("/etc/cni/multiplexer/net.d/files.conf", `{"cniVersion":"1.0.0","name":"files","type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"10.51.0.0/24"}]]}}`); err != nil {
		t.Fatal(err)
	}
	start := func(name, networks string) *corev1.Pod {
		t.Helper()
		p := nodetest.NewPod("default", name)
		p.Annotations["k8s.v1.cni.cncf.io/networks"] = networks
		if err := c.CreatePod(p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	web := start("web", "storage,files")
	if _, err := c.WaitRunning(web); err != nil {
		t.Fatal(err)
	}
	mustWell(t, n)
	x := explainIn(t, n, "web")
	if len(x.Notes) > 0 || x.Planned != nil || len(x.Containers) != 1 {
		t.Fatalf("a pod in order: %+v", x)
	}
	// Only the plugin may enter a pod's namespace.
	if got := x.Containers[0]; !got.Live || got.Kernel || !strings.Contains(got.Unread, "not permitted") || len(got.Networks) != 3 || len(got.NICs) != 3 ||
		got.Networks[1].Source != "NetworkAttachmentDefinition default/storage" || got.Networks[2].Source != "/etc/cni/multiplexer/net.d/files.conf" {
		t.Errorf("%+v", got)
	}
	start("none", "missing")
	start("dark", "dark")
	for pod, want := range map[string][2]string{
		"none": {"resolve", "no NetworkAttachmentDefinition default/missing"}, "dark": {"attach", "Link not found"},
	} {
		until(t, "kubelet and the agent told of "+pod, func() bool { return len(explainIn(t, n, pod).Events) >= 2 })
		for _, e := range explainIn(t, n, pod).Events {
			if e.Phase != want[0] || !strings.Contains(e.Text, want[1]) || e.Remedy == "" {
				t.Errorf("%s: %+v", pod, e)
			}
		}
	}
	for _, pod := range []string{"none", "dark", "web"} {
		if err := c.DeletePod("default", pod); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range []string{"journal", "vfs"} {
		if out, err := inAgent(n, list); err != nil {
			t.Errorf("%s in the pod: %v: %s", list, err, out)
		}
	}
}

// comeAgain uninstalls in the wrong place, which ends in the middle, and has
// multiplexer again by what its remedy says.
func comeAgain(t *testing.T, c *nodetest.Cluster, n *nodetest.Node, again func()) {
	t.Helper()
	// The agent ends when its node is uninstalled, and its container with all in it.
	if out, err := inAgent(n, "uninstall", "--cni-conf-dir=/etc/cni/net.d", "--cni-bin-dir=/opt/cni/bin", "--udev-dir="); err == nil {
		t.Errorf("uninstall in the agent's own pod: %s", out)
	}
	const how = "kubectl delete -f deploy/install.yaml, then apply -f"
	var rows []row
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("the last look from the agent's container: %v: %+v", last, rows)
		}
	}()
	said := func(check, state, words string) bool {
		return slices.ContainsFunc(rows, func(r row) bool {
			return r.Check == check && r.State == state && strings.Contains(r.What, words) && strings.Contains(r.What+r.Remedy, how)
		})
	}
	until(t, "the agent is there again and says why it does not install", func() bool {
		rows, _, last = doctorIn(n)
		return last == nil && said("agent", "warn", "was uninstalled")
	})
	if !said("conf", "fail", "was uninstalled") {
		t.Errorf("doctor does not say it: %+v", rows)
	}
	until(t, "the Node has an event", func() bool {
		answer, err := c.Do("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=node-a,reason=Uninstalling,type=Warning", nil)
		return err == nil && strings.Contains(string(answer.Body), how)
	})
	again()
	mustWell(t, n)
}
