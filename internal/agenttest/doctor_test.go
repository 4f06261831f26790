package agenttest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// installed is a node with multiplexer on it, and an agent.
func installed(t *testing.T) *Node {
	t.Helper()
	n := ready(t)
	n.Install()
	return n
}

// found is a row of `doctor -o json`.
type found struct{ Check, State, What, Remedy string }

// doctor looks the node over, with an administrator's or the agent's rights.
func (n *Node) doctor(kubeconfig string, more ...string) (rows []found, status int) {
	n.Helper()
	args := []string{"doctor", "-o", "json", "--metrics-address", n.MetricsAddress()}
	if kubeconfig != "" {
		args = append(args, "--kubeconfig", kubeconfig)
	}
	out, bad, status := n.Tool(append(args, more...)...)
	var report struct{ Rows []found }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		n.Fatalf("%v: %s%s", err, out, bad)
	}
	return report.Rows, status
}

// says fails the test unless a check is in a state, and says the words.
func (n *Node) says(rows []found, check, state, words string) {
	n.Helper()
	var of []found
	for _, r := range rows {
		if r.Check == check {
			of = append(of, r)
		}
		if r.Check == check && r.State == state && strings.Contains(r.What, words) {
			return
		}
	}
	n.Errorf("%s: want %s %q, got %+v", check, state, words, of)
}

// On a node where all is well, doctor says so, with the agent's own rights.
func TestDoctorOnAHealthyNode(t *testing.T) {
	n := installed(t)
	n.Define("shop", "well-a", n.List("well-a", "10.50.0.0/24"), "")
	p := n.passing("well-web", "well-a")
	n.OK("ADD", p)
	rows, status := n.doctor(n.AgentKubeconfig())
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
	checks := map[string]bool{}
	for _, r := range rows {
		checks[r.Check] = checks[r.Check] || r.State == "ok"
		if r.State != "ok" && r.State != "n/a" {
			// The cluster is shared: other tests define networks that are wrong.
			if r.Check != "delegates" || r.State != "warn" {
				t.Errorf("%+v", r)
			}
		}
	}
	for _, check := range []string{"runtime", "conf", "cluster network", "plugin", "state", "agent", "kubelet", "rights", "definitions", "ranges", "journals", "kernel"} {
		if !checks[check] {
			t.Errorf("%s is not ok: %+v", check, rows)
		}
	}
	n.says(rows, "agent", "ok", "answers at /run/multiplexer/agent.sock, version ")
	n.OK("DEL", p)
}

// What is wrong with a real node is found, and makes the exit status 1.
func TestDoctorFindsTroubles(t *testing.T) {
	n := installed(t)
	n.Define("shop", "ill-a", n.List("ill-a", "10.50.0.0/24"), "")
	n.Define("shop", "ill-b", map[string]any{"cniVersion": "1.0.0", "name": "ill-b", "type": "ill-plugin"}, "")
	p := n.passing("ill-web", "ill-a")
	n.OK("ADD", p)
	nobody, err := n.Cluster.User("nobody")
	n.must(err)
	kubeconfig := n.Cluster.RequireKubeconfig(t, nobody)
	rows, status := n.doctor(kubeconfig)
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	n.says(rows, "rights", "fail", "get network-attachment-definitions (k8s.cni.cncf.io), list network-attachment-definitions")
	n.says(rows, "definitions", "fail", "forbidden")

	rows, _ = n.doctor(n.AgentKubeconfig())
	n.says(rows, "delegates", "warn", "plugin ill-plugin is in none of /opt/cni/bin: shop/ill-b")

	n.StopAgent()
	n.must(p.NS.Replace())
	n.must(os.Remove(n.File("bin/multiplexer")))
	rows, status = n.doctor("")
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	n.says(rows, "agent", "fail", "agent at /run/multiplexer/agent.sock")
	n.says(rows, "journals", "warn", "c-ill-web (shop/ill-web) is left over")
	n.says(rows, "plugin", "fail", "/opt/cni/bin/multiplexer is missing")
	n.says(rows, "rights", "n/a", "--kubeconfig")
}

// A cluster without the kind, and one that cannot be reached.
func TestDoctorAsksTheAPIServer(t *testing.T) {
	n := installed(t)
	bare := kubetest.Start(t)
	kubeconfig := bare.RequireKubeconfig(t, bare.Admin())
	rows, status := n.doctor(kubeconfig)
	n.says(rows, "definitions", "fail", "does not know the kind NetworkAttachmentDefinition")
	n.says(rows, "rights", "ok", "all ")
	n.must(bare.StopAPI())
	rows, _ = n.doctor(kubeconfig)
	n.says(rows, "rights", "fail", "connection refused")
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	if _, bad, code := n.Tool("doctor", "--kubeconfig", "/nowhere"); code != 1 || !strings.Contains(bad, "--kubeconfig /nowhere") {
		t.Errorf("%d, %s", code, bad)
	}
}

// deleteAtEnd deletes an object at the end of the test, which can run again then.
func (n *Node) deleteAtEnd(path string) {
	n.Helper()
	n.Cleanup(func() {
		answer, err := n.Cluster.Do("DELETE", path+"?gracePeriodSeconds=0", nil)
		n.must(err)
		n.must(answer.Err())
	})
}

// passing is Pod, for the time of the test.
func (n *Node) passing(name, networks string) *Pod {
	n.Helper()
	p := n.Pod(name, networks)
	n.deleteAtEnd("/api/v1/namespaces/" + p.Namespace + "/pods/" + p.Name)
	return p
}
