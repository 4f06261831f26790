package agenttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

const ourConf = "net.d/00-multiplexer.conflist"

// installing lets the node's agent install, into directories of its own.
func installing(t *testing.T, more ...string) *Node {
	t.Helper()
	n := New(t, cluster)
	n.must(os.MkdirAll(n.File("bin"), 0o755))
	n.Flags = append(append(n.where(), "--install", "--plugin", nettest.Binary(n), "--set", "confDir="+n.File("conf")), more...)
	return n
}

// where are the node's directories, as flags.
func (n *Node) where() []string {
	return []string{"--cni-conf-dir", n.File("net.d"), "--cni-bin-dir", n.File("bin"), "--runtime", "containerd"}
}

// placed returns our conf's only plugin, or nil.
func (n *Node) placed() map[string]any {
	n.Helper()
	raw, err := os.ReadFile(n.File(ourConf))
	if os.IsNotExist(err) {
		return nil
	}
	n.must(err)
	var list struct {
		Name    string
		Plugins []map[string]any
	}
	n.must(json.Unmarshal(raw, &list))
	list.Plugins[0]["name"] = list.Name
	return list.Plugins[0]
}

// byConf lets calls go by the installed conf and plugin.
func (n *Node) byConf(verb string, p *Pod) nettest.Outcome {
	n.Helper()
	conf := n.placed()
	conf["cniVersion"] = "1.1.0"
	conf["runtimeConfig"] = map[string]any{"io.kubernetes.cri.pod-annotations": p.Annotations}
	call := n.Call(verb, p)
	var err error
	call.Bin = n.File("bin/multiplexer")
	if verb == "STATUS" {
		call.ContainerID, call.Netns, call.IfName, call.Args = "", "", "", ""
	}
	call.Stdin, err = json.Marshal(conf)
	n.must(err)
	out, err := n.Host.CNI(n.Context(), call)
	n.must(err)
	return out
}

// nodeEvents are the events about our node, by reason.
func (n *Node) nodeEvents(reason string) []string {
	n.Helper()
	answer, err := n.Cluster.Do("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.kind=Node,involvedObject.name="+Name+",reason="+reason, nil)
	n.must(err)
	n.must(answer.Err())
	var list struct {
		Items []struct {
			Type, Message  string
			InvolvedObject struct{ UID string }
		}
	}
	n.must(answer.Into(&list))
	var out []string
	for _, e := range list.Items {
		if strings.Contains(e.Message, n.Dir) && e.InvolvedObject.UID == Name {
			out = append(out, e.Type+" "+e.Message)
		}
	}
	return out
}

func (n *Node) untilEvent(reason string, words ...string) {
	n.Helper()
	n.Until("there is an event "+reason, func() (bool, string) {
		all := strings.Join(n.nodeEvents(reason), "\n")
		for _, w := range words {
			if !strings.Contains(all, w) {
				return false, all
			}
		}
		return all != "", all
	})
}

// The conf comes when plugins get answers, and not before: the first pod that
// comes by it gets its networks.
func TestInstallWaitsForTheAgent(t *testing.T) {
	n := installing(t)
	n.Define("shop", "inst-a", n.List("inst-a", "10.50.0.0/24"), "")
	asks := n.Pod("inst-asks", "inst-a")
	n.weather(cluster.StopAPI)
	n.StartAgent()
	n.Until("the plugin is there", func() (bool, string) {
		_, err := os.Stat(n.File("bin/multiplexer"))
		return err == nil, fmt.Sprint(err)
	})
	n.Until("the agent says that it waits", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "does not answer"), body
	})
	n.want("conf before the agent knows anything", n.placed() == nil, true)
	n.weather(cluster.StartAPI)
	n.Until("the conf is there", func() (bool, string) { return n.placed() != nil, "no" })
	request := agentapi.Request{Verb: agentapi.VerbPlan, Pod: agentapi.Pod{Namespace: "shop", Name: asks.Name, Annotations: asks.Annotations}}
	if _, err := agentapi.Ask(t.Context(), n.Socket(), request); err != nil {
		t.Errorf("the conf is there, and the agent does not answer: %v", err)
	}
	if e := n.byConf("ADD", asks).Error(); e != nil {
		t.Fatal(e)
	}
	n.untilStatus(asks, 2)
	n.WaitReady()
	for key, want := range map[string]string{
		"name": "cluster", "clusterNetwork": n.File("net.d/10-cluster.conflist"), "stateDir": n.File("state"), "agentSocket": n.Socket(), "runtime": "containerd",
	} {
		n.want(key, n.placed()[key], want)
	}
	n.want("metric", n.Metric(`multiplexer_install_events_total{reason="ConfWritten"}`), "1")
	n.untilEvent("ConfWritten", "Normal", ourConf)
	if e := n.byConf("DEL", asks).Error(); e != nil {
		t.Fatal(e)
	}
}

func (n *Node) want(what string, got, want any) {
	n.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		n.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A killed agent takes nothing away, and the next one changes nothing: plain
// pods start, pods that ask for networks wait, DEL needs nobody.
func TestInstallOutlivesTheAgent(t *testing.T) {
	n := installing(t)
	n.Define("shop", "outl-a", n.List("outl-a", "10.50.0.0/24"), "")
	older, plain, asks := n.Pod("outl-older", "outl-a"), n.Pod("outl-plain", ""), n.Pod("outl-asks", "outl-a")
	n.StartAgent()
	n.WaitReady()
	n.OKByConf("ADD", older)
	confBefore, err := os.Stat(n.File(ourConf))
	n.must(err)
	pluginBefore, err := os.Stat(n.File("bin/multiplexer"))
	n.must(err)
	n.KillAgent()
	n.OKByConf("ADD", plain)
	n.Refused(n.byConf("ADD", asks), 11)
	n.OKByConf("DEL", older)
	n.StartAgent()
	n.WaitReady()
	for name, before := range map[string]os.FileInfo{ourConf: confBefore, "bin/multiplexer": pluginBefore} {
		now, statErr := os.Stat(n.File(name))
		n.must(statErr)
		if !os.SameFile(before, now) || !before.ModTime().Equal(now.ModTime()) {
			t.Errorf("%s was written again", name)
		}
	}
	n.OKByConf("ADD", asks)
	for _, p := range []*Pod{plain, asks} {
		n.OKByConf("DEL", p)
	}
	n.StopAgent()
	n.want("conf after the agent was stopped", n.placed() != nil, true)
}

// OKByConf is byConf, and fails the test when the call did.
func (n *Node) OKByConf(verb string, p *Pod) {
	n.Helper()
	out := n.byConf(verb, p)
	if e := out.Error(); e != nil {
		n.Fatalf("%s %s: %s\n%s", verb, p.Name, e, out.Stderr)
	}
}

// Whoever takes our place is named in the log, in an event of the Node and in
// a metric, and loses it again.
func TestInstallRival(t *testing.T) {
	n := installing(t)
	n.StartAgent()
	n.WaitReady()
	n.must(os.Rename(n.File(ourConf), n.File(ourConf+".cilium_bak")))
	n.Until("the conf is back", func() (bool, string) { return n.placed() != nil, "no" })
	n.untilEvent("ConfTaken", "Warning", "cilium_bak", "cni.exclusive")
	n.want("metric", n.Metric(`multiplexer_install_events_total{reason="ConfTaken"}`), "1")
	if log := n.AgentLog(); !strings.Contains(log, "cilium_bak") {
		t.Errorf("the log does not name the rival:\n%s", log)
	}
	// The cluster network goes another way: the conf follows.
	conf := n.List("other", "10.9.0.0/24")
	raw, err := json.Marshal(conf)
	n.must(err)
	n.must(os.WriteFile(n.File("net.d/05-other.conflist"), raw, 0o644))
	n.Until("the conf is made for the other network", func() (bool, string) {
		p := n.placed()
		return p["name"] == "other", fmt.Sprint(p["name"])
	})
	n.WaitReady()
}

// uninstall is `multiplexerd uninstall` on this node.
func (n *Node) uninstall(more ...string) *exec.Cmd {
	n.Helper()
	binary, err := nettest.AgentPath()
	n.must(err)
	args := append([]string{"uninstall", "--state-dir", n.File("state"), "--pod-resources-socket", n.Kubelet.Socket(), "--settle", "300ms", "--timeout", "1m"}, n.where()...)
	return exec.Command(binary, append(args, more...)...)
}

// An uninstalled installation does not come back by itself, also when its
// agent is started again. Its agent lives on for the pods that are there.
func TestUninstallBesideTheAgent(t *testing.T) {
	n := installing(t, "--installation", "one")
	n.Define("shop", "unin-a", n.List("unin-a", "10.50.0.0/24"), "")
	p := n.Pod("unin-web", "unin-a")
	n.StartAgent()
	n.WaitReady()
	n.OKByConf("ADD", p)
	going := n.uninstall()
	var out buffer
	going.Stdout, going.Stderr = &out, &out
	n.must(going.Start())
	ended := make(chan error, 1)
	go func() { ended <- going.Wait() }()
	t.Cleanup(func() { _ = going.Process.Kill() })
	// The agent hands out no devices any more: it ends, and kubelet starts it.
	select {
	case <-n.agent.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent goes on with its devices")
	}
	if log := n.AgentLog(); !strings.Contains(log, "being uninstalled") {
		t.Errorf("the agent does not say why it ends:\n%s", log)
	}
	n.StartAgent()
	n.Until("the agent says what it waits for", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "was uninstalled"), body
	})
	n.untilStatus(p, 2) // it serves
	n.Until("the pod is waited for", func() (bool, string) {
		return strings.Contains(out.String(), "shop/unin-web (shop/unin-a)"), out.String()
	})
	n.OKByConf("DEL", p)
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("uninstall does not end: %s", out.String())
	}
	n.want("conf", n.placed() == nil, true)
	_, err := os.Lstat(n.File("bin/multiplexer"))
	n.want("plugin", os.IsNotExist(err), true)
	n.KillAgent()
	n.StartAgent()
	n.Until("the agent does not install", func() (bool, string) {
		_, body := n.Get("/readyz")
		return strings.Contains(body, "was uninstalled"), body
	})
	n.want("conf after the agent came again", n.placed() == nil, true)
	// Another installation may.
	n.KillAgent()
	n.Flags[len(n.Flags)-1] = "two"
	n.StartAgent()
	n.WaitReady()
	n.want("conf of another installation", n.placed() != nil, true)
}

// --force: the plugin takes the networks away at the runtime's next call, and
// the pod's status says so.
func TestForceIsShown(t *testing.T) {
	n := installing(t, "--installation", "one")
	n.Define("shop", "forc-a", n.List("forc-a", "10.50.0.0/24"), "")
	p := n.Pod("forc-web", "forc-a")
	n.StartAgent()
	n.WaitReady()
	n.OKByConf("ADD", p)
	n.untilStatus(p, 2)
	n.must(os.WriteFile(n.File("state/uninstalling"), []byte(`{"installation":"one"}`), 0o600))
	select {
	case <-n.agent.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent goes on with its devices")
	}
	n.StartAgent()
	n.must(os.WriteFile(n.File("state/release/"+p.Container), []byte("networks\n"), 0o600))
	n.OKByConf("STATUS", p)
	n.Until("the status has the cluster network alone", func() (bool, string) {
		s := n.Status(p)
		return len(s) == 1 && s[0]["interface"] == "eth0", fmt.Sprint(s)
	})
	n.OKByConf("DEL", p)
	n.want("journal", n.Journal(p), false)
}

// In a pod, the installation is the DaemonSet's: no flag says so.
func TestInstallationOfADaemonSet(t *testing.T) {
	n := installing(t)
	const uid = "5f0c7d5e-8b8f-4f0b-9a57-0e1f3f3d9d11"
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "mx-agent", "namespace": "kube-system", "ownerReferences": []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "multiplexer", "uid": uid, "controller": true},
		}},
		"spec": map[string]any{"nodeName": Name, "automountServiceAccountToken": false, "containers": []any{map[string]any{"name": "app", "image": "none"}}},
	}
	answer, err := n.Cluster.Do("POST", "/api/v1/namespaces/kube-system/pods", pod)
	n.must(err)
	n.must(answer.Err())
	t.Cleanup(func() { n.DeletePod(&Pod{Namespace: "kube-system", Name: "mx-agent"}) })
	t.Setenv("POD_NAME", "mx-agent")
	t.Setenv("POD_NAMESPACE", "kube-system")
	n.StartAgent()
	n.WaitReady()
	raw, err := os.ReadFile(n.File("state/installed.json"))
	n.must(err)
	var record struct{ Installation string }
	n.must(json.Unmarshal(raw, &record))
	n.want("installation", record.Installation, uid)
}

// Flags that contradict each other end the agent at once.
func TestInstallFlagsContradict(t *testing.T) {
	n := installing(t, "--set", "stateDir=/elsewhere")
	n.StartAgent()
	select {
	case <-n.agent.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not end")
	}
	if log := n.AgentLog(); !strings.Contains(log, `stateDir of the plugin's options is "/elsewhere"`) || !strings.Contains(log, "--state-dir") {
		t.Error(log)
	}
	n.signal(n.agent, syscall.SIGKILL)
}

// A node without a cluster network waits for one, and says so.
func TestInstallWaitsForTheClusterNetwork(t *testing.T) {
	n := installing(t)
	n.must(os.Rename(n.File("net.d/10-cluster.conflist"), n.File("later")))
	n.StartAgent()
	n.Until("the agent says what it waits for", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "no cluster network") && strings.Contains(body, n.File("net.d")), body
	})
	n.untilEvent("ClusterMissing", "Warning", "the conf is put in place when there is one")
	n.want("conf", n.placed() == nil, true)
	n.must(os.Rename(n.File("later"), n.File("net.d/10-cluster.conflist")))
	n.WaitReady()
	n.want("conf", n.placed()["name"], "cluster")
	// Once it is there it stays, and the node is as ready as before.
	n.must(os.Rename(n.File("net.d/10-cluster.conflist"), n.File("later")))
	n.Until("it is missed", func() (bool, string) {
		m := n.Metric(`multiplexer_install_events_total{reason="ClusterMissing"}`)
		return m == "2", m
	})
	n.want("conf", n.placed()["name"], "cluster")
	if code, body := n.Get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %s", body)
	}
}
