package agenttest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/explain"
)

// explained is `explain -o json` of a pod, and the exit status.
func (n *Node) explained(pod string, more ...string) (*explain.Explanation, int) {
	n.Helper()
	out, bad, status := n.Tool(append([]string{"explain", pod, "-o", "json"}, more...)...)
	x := &explain.Explanation{}
	if err := json.Unmarshal([]byte(out), x); err != nil {
		n.Fatalf("%v: %s%s", err, out, bad)
	}
	return x, status
}

// ofNetworks says of each network: interface, name, step, addresses, device,
// by what and from where.
func ofNetworks(list []explain.Network) (out []string) {
	for _, one := range list {
		device := ""
		if one.Device != nil {
			device = one.Device.ID
		}
		out = append(out, strings.Join([]string{one.Interface, one.Network, one.Step, strings.Join(one.Addresses, ","), device, one.By, one.Source}, "|"))
	}
	return out
}

// noted fails the test unless a note says the words and has a remedy.
func (n *Node) noted(x *explain.Explanation, words string) {
	n.Helper()
	for _, note := range x.Notes {
		if strings.Contains(note.What, words) && note.Remedy != "" {
			return
		}
	}
	n.Errorf("no note of %q: %+v", words, x.Notes)
}

// admin is an administrator's kubeconfig.
func (n *Node) admin() []string {
	path := n.File("admin")
	n.must(n.Cluster.Kubeconfig(path, n.Cluster.Admin()))
	return []string{"--kubeconfig", path, "--node-name", Name}
}

// AgentCredentials are those that explain has in the agent's pod.
func (n *Node) AgentCredentials() []string {
	return []string{"--kubeconfig", n.AgentKubeconfig(), "--node-name", Name}
}

// ptp is a network with a real NIC, which carries the pod's default route.
func ptp(name, address, gateway string) any {
	return obj{"cniVersion": "1.0.0", "name": name, "type": "ptp", "ipam": obj{
		"type": "static", "addresses": []any{obj{"address": address, "gateway": gateway}}, "routes": []any{obj{"dst": "0.0.0.0/0"}},
	}}
}

// A pod with its networks: what it asked for, what that was, the device and
// the rule, who carries what; with the API server and without.
func TestExplainAttached(t *testing.T) {
	n := installed(t)
	n.Define("shop", "ex-storage", ptp("ex-storage", "10.50.0.2/24", "10.50.0.1"), "")
	n.Define("shop", "ex-fast", n.With(n.List("ex-fast", "10.51.0.0/24"), "capabilities", obj{"deviceID": true}), "example.com/ex")
	networks := `[{"name":"ex-storage","default-route":["10.50.0.1"]},{"name":"ex-fast","interface":"fast","io.github.multiplexer-cni/device":{"container":"app"}}]`
	p := n.passing("ex-web", networks)
	n.Kubelet.SetPod("shop", "ex-web", kubelettest.Container{Name: "app", Devices: []kubelettest.Device{{Resource: "example.com/ex", ID: "0000:3b:02.1"}}})
	cluster := func(step, addresses, dir string) string {
		return "eth0|cluster|" + step + "|" + addresses + "||the cluster network|" + dir + "/10-cluster.conflist"
	}
	rest := func(step, storage, fast string) []string {
		return []string{
			"net1|shop/ex-storage|" + step + "|" + storage + "||the annotation, network 1|NetworkAttachmentDefinition shop/ex-storage",
			"fast|shop/ex-fast|" + step + "|" + fast + "|0000:3b:02.1|the annotation, network 2|NetworkAttachmentDefinition shop/ex-fast",
		}
	}
	const chosen = `the first that no network before it took, of those of example.com/ex that kubelet gave container "app", which the annotation names`
	before, _ := n.explained("shop/ex-web", n.admin()...)
	n.same(ofNetworks(before.Planned.Networks), append([]string{cluster("", "", "/etc/cni/net.d")}, rest("", "", "")...))
	n.same(before.Planned.Networks[2].Device.Rule, chosen)
	n.noted(before, "the runtime has not called multiplexer for it")

	n.OK("ADD", p)
	for from, flags := range map[string][]string{"the pod": n.admin(), "the journal, as the runtime delivered it": nil} {
		x, status := n.explained("shop/ex-web", flags...)
		if status != 0 || x.Planned != nil || len(x.Containers) != 1 {
			t.Fatalf("%d, %+v", status, x)
		}
		n.same(x.Asked, []explain.Asked{{Annotation: "k8s.v1.cni.cncf.io/networks", Value: networks, From: from}})
		c := x.Containers[0]
		n.same(ofNetworks(c.Networks), append([]string{cluster("added", "10.0.0.2", n.File("net.d"))}, rest("added", "10.50.0.2", "10.51.0.2")...))
		n.same(c.Networks[2].Device.Rule, chosen)
		n.same(c.NICs, []explain.NIC{{Name: "net1", Table: 30001, Carries: []string{"10.50.0.0/24", "10.50.0.1", "everything else"}, Replies: []string{"10.50.0.2"}}})
		if !c.Live || !c.Kernel || c.Changed != "" || c.State != "attached" {
			t.Errorf("%+v", c)
		}
	}
	// Somebody changes the pod's routing.
	if raw, err := exec.Command("ip", "-n", p.NS.Name(), "rule", "del", "pref", "30000").CombinedOutput(); err != nil {
		t.Fatalf("%s", raw)
	}
	x, _ := n.explained("shop/ex-web")
	n.noted(x, "somebody changed its routing since")
	n.must(p.NS.Replace())
	x, _ = n.explained("shop/ex-web")
	n.noted(x, "its attachments are left over")
	if c := x.Containers[0]; c.Live || c.Kernel || !strings.Contains(c.Unread, "is gone") {
		t.Errorf("%+v", c)
	}
	n.OK("DEL", p)
}

// A pod whose ADD fails: the phase, what is wrong and what to do, by its event
// and by what would happen now.
func TestExplainFailed(t *testing.T) {
	n := installed(t)
	p := n.passing("exf-web", "exf-missing")
	n.Refused(n.Run("ADD", p), 7)
	var x *explain.Explanation
	n.Until("the event is there", func() (bool, string) {
		x, _ = n.explained("shop/exf-web", n.admin()...)
		return len(x.Events) == 1, fmt.Sprint(x.Events)
	})
	e := x.Events[0]
	if e.Phase != "resolve" || e.Reason != "NoNetworkFound" || e.Remedy == "" || !strings.Contains(e.Text, "shop/exf-missing") {
		t.Errorf("%+v", e)
	}
	if x.Planned == nil || !strings.Contains(x.Planned.Error, "no NetworkAttachmentDefinition shop/exf-missing: create it") || x.Planned.Remedy == "" {
		t.Errorf("%+v", x.Planned)
	}
	n.same(ofNetworks(x.Planned.Networks), []string{"eth0|cluster||||the cluster network|/etc/cni/net.d/10-cluster.conflist"})
	// Once it is there, the next ADD would do.
	n.Define("shop", "exf-missing", n.List("exf-missing", "10.50.0.0/24"), "")
	n.deleteAtEnd("/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions/exf-missing")
	n.Until("the agent knows it", func() (bool, string) {
		x, _ = n.explained("shop/exf-web")
		return x.Planned != nil && x.Planned.Error == "" && len(x.Planned.Networks) == 2, fmt.Sprint(x.Planned)
	})
	n.same(x.Asked[0].From, "the agent")
	// Without the agent the plan fails as the ADD would.
	n.KillAgent()
	x, _ = n.explained("shop/exf-web", n.admin()...)
	if !strings.Contains(x.Planned.Error, "agent at /run/multiplexer/agent.sock") || !strings.Contains(x.Planned.Remedy, "doctor") {
		t.Errorf("%+v", x.Planned)
	}
	x, status := n.explained("shop/exf-web")
	if status != 1 || !x.Missing || len(x.NotAsked) != 2 {
		t.Errorf("%d, %+v", status, x)
	}
}

// Of each way to fail, phase and reason are there although what was begun is
// undone: by the event, and by what would happen now.
func TestExplainNamesPhaseAndReason(t *testing.T) {
	n := installed(t)
	n.Namespace("exp-other", "")
	n.Define("exp-other", "exp-closed", n.List("exp-closed", "10.50.0.0/24"), "")
	n.Define("shop", "exp-card", n.With(n.List("exp-card", "10.51.0.0/24"), "capabilities", obj{"deviceID": true}), "example.com/exp")
	n.Define("shop", "exp-dark", n.Stepped("exp-dark", "10.52.0.0/24", broken()), "")
	for name, c := range map[string]struct {
		networks, phase, words string
		planned                bool // the next ADD's failure is known before it
	}{
		"isolation": {"exp-other/exp-closed", "resolve", "is not open to pods of namespace", true},
		"resource":  {"exp-card", "devices", `needs a device of "example.com/exp"`, true},
		"delegate":  {"exp-dark", "attach", "the fabric is dark", false},
		"wrong":     {"exp dark", "resolve", "annotation k8s.v1.cni.cncf.io/networks", true},
	} {
		p := n.passing("exp-"+name, c.networks)
		n.Kubelet.SetPod("shop", p.Name, kubelettest.Container{Name: "app"})
		if n.Run("ADD", p).Error() == nil {
			t.Fatalf("%s: the ADD did not fail", name)
		}
		n.same(n.Journal(p), false)
		var x *explain.Explanation
		n.Until("the event is there", func() (bool, string) {
			x, _ = n.explained("shop/"+p.Name, n.AgentCredentials()...)
			return len(x.Events) == 1, fmt.Sprint(x.Events, x.NotAsked)
		})
		if e := x.Events[0]; e.Phase != c.phase || e.Remedy == "" || !strings.Contains(e.Text, c.words) {
			t.Errorf("%s: %+v", name, e)
		}
		planned := x.Planned
		if planned == nil || c.planned != (planned.Error != "") || c.planned && (planned.Phase != c.phase || planned.Remedy == "" || !strings.Contains(planned.Error, c.words)) {
			t.Errorf("%s: %+v", name, planned)
		}
		text, _, _ := n.Tool(append([]string{"explain", "shop/" + p.Name}, n.AgentCredentials()...)...)
		if flat := strings.Join(strings.Fields(text), " "); !strings.Contains(flat, "phase "+c.phase) && !strings.Contains(flat, "Fails in: "+c.phase) {
			t.Errorf("%s: no phase:\n%s", name, text)
		}
	}
	// Without the agent there is no event of ours.
	p := n.passing("exp-away", "exp-dark")
	n.KillAgent()
	n.Refused(n.Run("ADD", p), 11, "agent at")
	x, _ := n.explained("shop/exp-away", n.AgentCredentials()...)
	if x.Planned == nil || x.Planned.Phase != "ask the agent" || !strings.Contains(x.Planned.Error, "agent at") || !strings.Contains(x.Planned.Remedy, "doctor") {
		t.Errorf("%+v", x.Planned)
	}
}

// A release that fails: which network, with its error.
func TestExplainReleaseFailed(t *testing.T) {
	n := installed(t)
	n.Define("shop", "exr-a", n.Stepped("exr-a", "10.50.0.0/24", obj{"DEL": []any{obj{"error": obj{"code": 11, "msg": "the switch is away"}}}}), "")
	p := n.passing("exr-web", "exr-a")
	n.OK("ADD", p)
	if n.Run("DEL", p).Error() == nil {
		t.Fatal("the DEL did not fail")
	}
	x, _ := n.explained("shop/exr-web")
	c := x.Containers[0]
	if !strings.Contains(c.State, "release failed (DEL), tries: 1") {
		t.Errorf("%+v", c)
	}
	if net1 := c.Networks[1]; !strings.Contains(net1.Problem, "DEL failed") || !strings.Contains(net1.Problem, "the switch is away") || net1.Remedy == "" {
		t.Errorf("%+v", net1)
	}
}

// Pods that multiplexer did not attach here, each with what to look at.
func TestExplainOtherPods(t *testing.T) {
	n := installed(t)
	make := func(name string, spec obj) {
		spec["automountServiceAccountToken"], spec["containers"] = false, []any{obj{"name": "app", "image": "none"}}
		n.Apply(obj{"apiVersion": "v1", "kind": "Pod", "metadata": obj{"name": name, "namespace": "shop"}, "spec": spec})
		n.deleteAtEnd("/api/v1/namespaces/shop/pods/" + name)
	}
	make("exo-host", obj{"nodeName": Name, "hostNetwork": true})
	make("exo-there", obj{"nodeName": "node-b"})
	make("exo-nowhere", obj{})
	make("exo-old", obj{"nodeName": Name})
	answer, err := n.Cluster.Do("PATCH", "/api/v1/namespaces/shop/pods/exo-old/status", obj{"status": obj{"phase": "Running"}})
	n.must(err)
	n.must(answer.Err())
	for pod, words := range map[string]string{
		"exo-host":    "hostNetwork",
		"exo-there":   "the pod is on node node-b, this is node-a",
		"exo-nowhere": "the pod is on no node yet",
		"exo-old":     "the pod runs, and multiplexer did not attach it",
	} {
		x, status := n.explained("shop/"+pod, n.admin()...)
		if status != 0 {
			t.Errorf("%s: exit status %d", pod, status)
		}
		n.noted(x, words)
		if pod == "exo-there" && x.Planned != nil {
			t.Errorf("planned for another node: %+v", x.Planned)
		}
	}
	x, status := n.explained("shop/exo-none", n.admin()...)
	if status != 1 || !x.Missing {
		t.Errorf("%d, %+v", status, x)
	}
	n.noted(x, "the API server has no such pod")
	for _, wrong := range []string{"web", "shop/", "shop/../x", "Shop/web"} {
		if out, bad, code := n.Tool("explain", wrong); code != 1 || out != "" || bad == "" {
			t.Errorf("%s: %d, %q, %q", wrong, code, out, bad)
		}
	}
	since := n.awake()
	n.FreezeAgent()
	defer n.ThawAgent()
	if _, status = n.explained("shop/exo-old", n.admin()...); status != 0 || since() > 10*time.Second {
		t.Errorf("an agent that hangs: %d, %s", status, since())
	}
}

// The text fits a terminal.
func TestExplainIsReadable(t *testing.T) {
	n := installed(t)
	n.Define("shop", "exw-a", n.List("exw-a", "10.50.0.0/24"), "")
	p := n.passing("exw-web", "exw-a,exw-a,exw-a")
	n.OK("ADD", p)
	out, _, _ := n.Tool(append([]string{"explain", "shop/exw-web"}, n.admin()...)...)
	for line := range strings.Lines(out) {
		if len(line) > 121 && !strings.Contains(line, n.Dir) || strings.HasSuffix(line, " \n") {
			t.Errorf("%d bytes: %s", len(line), line)
		}
	}
	if diff := cmp.Diff(3, strings.Count(out, "annotation, network")); diff != "" {
		t.Errorf("%s%s", diff, out)
	}
	n.OK("DEL", p)
}
