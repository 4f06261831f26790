package agenttest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// soon is how long a call may take that meets an agent or an API server which
// does not answer: the plugin's patience of 2 s and its own work, on a busy
// machine.
const soon = 5 * time.Second

// within fails the test when a step takes longer.
func (n *Node) within(limit time.Duration, what string, step func()) {
	n.Helper()
	since := n.awake()
	step()
	if took := since(); took > limit {
		n.Errorf("%s took %s, want at most %s", what, took, limit)
	} else {
		n.Logf("%s took %s", what, took.Round(time.Millisecond))
	}
}

// weather does something to the API server, and mends it at the test's end.
func (n *Node) weather(step func() error) {
	n.Helper()
	n.Cleanup(func() {
		_ = n.Cluster.ThawAPI()  // unless it is stopped
		_ = n.Cluster.StartAPI() // unless it runs
	})
	n.must(step())
}

func TestAPIDownWhenTheAgentStarts(t *testing.T) {
	n := New(t, cluster)
	n.Define("shop", "early-a", n.List("early-a", "10.50.0.0/24"), "")
	asks, plain := n.Pod("early-asks", "early-a"), n.Pod("early-plain", "")
	n.weather(cluster.StopAPI)
	n.StartAgent()
	n.Until("the agent says that it is not ready", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "does not answer"), body
	})
	if code, body := n.Get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %s: waiting is no illness", code, body)
	}
	before := n.snapshot(asks, plain)
	n.within(soon, "ADD that is refused", func() { n.Refused(n.Run("ADD", asks), 11, "not known yet", "does not answer") })
	nettest.RequireSame(t, before, n.snapshot(asks, plain))
	n.within(soon, "ADD of a plain pod", func() { n.OK("ADD", plain) })

	pid := n.AgentPid()
	n.weather(cluster.StartAPI)
	n.WaitReady()
	n.OK("ADD", asks)
	n.untilStatus(asks, 2)
	for _, p := range []*Pod{asks, plain} {
		n.OK("DEL", p)
	}
	nettest.RequireSame(t, before, n.snapshot(asks, plain))
	if n.AgentPid() != pid {
		t.Error("the agent was started again")
	}
	n.StopAgent()
}

// What is known stays in use; what cannot be told is told later.
func TestAPIGoesAway(t *testing.T) {
	for _, weather := range []struct {
		name     string
		bad, end func() error
	}{
		{"down", cluster.StopAPI, cluster.StartAPI},
		{"frozen", cluster.FreezeAPI, cluster.ThawAPI},
	} {
		t.Run(weather.name, func(t *testing.T) {
			n := New(t, cluster)
			net := weather.name + "-a"
			n.Define("shop", net, n.List(net, "10.50.0.0/24"), "")
			n.StartAgent()
			n.WaitReady()
			lives, late, next := n.Pod(weather.name+"-lives", net), n.Pod(weather.name+"-late", net), n.Pod(weather.name+"-next", net)
			unknown, plain := n.Pod(weather.name+"-unknown", "nowhere"), n.Pod(weather.name+"-plain", "")
			before := n.snapshot(lives, late, next, unknown, plain)
			n.OK("ADD", lives)
			n.untilStatus(lives, 2)
			if got := n.Metric("multiplexer_status_retries_total"); got != "0" {
				t.Errorf("%s retries in good weather", got)
			}

			n.weather(weather.bad)
			n.within(soon, "ADD of a pod with a known network", func() { n.OK("ADD", late) })
			n.within(agentapi.Patience*3/4, "ADD of the next one, which does not wait", func() { n.OK("ADD", next) })
			n.within(soon, "ADD of a plain pod", func() { n.OK("ADD", plain) })
			n.within(soon, "ADD of a pod with an unknown network", func() { n.Refused(n.Run("ADD", unknown), 11, "nowhere") })
			n.within(soon, "DEL", func() { n.OK("DEL", lives) })
			n.Until("the status is tried again", func() (bool, string) {
				got := n.Metric("multiplexer_status_retries_total")
				return got != "" && got != "0", got
			})
			if code, body := n.Get("/readyz"); code != http.StatusOK {
				t.Errorf("/readyz: %d %s: all that was known still is", code, body)
			}

			n.weather(weather.end)
			for _, p := range []*Pod{late, next} {
				n.untilStatus(p, 2)
				n.OK("DEL", p)
			}
			n.OK("DEL", plain)
			nettest.RequireSame(t, before, n.snapshot(lives, late, next, unknown, plain))
			n.StopAgent()
		})
	}
}

// A definition that comes after the watches were cut, and after the API
// server got a new certificate, is found, and soon without asking for it.
func TestWatchesCutAndCertificateRotated(t *testing.T) {
	n := New(t, cluster)
	n.StartAgent()
	n.WaitReady()
	if err := cluster.RotateCertificate(); err != nil {
		t.Fatal(err)
	}
	n.weather(cluster.StopAPI)
	restarted := time.Now()
	n.weather(cluster.StartAPI)
	n.Define("shop", "cut-a", n.List("cut-a", "10.50.0.0/24"), "")
	p := n.Pod("cut-web", "cut-a")
	n.OK("ADD", p)
	n.untilStatus(p, 2)
	n.OK("DEL", p)
	n.Until("the agent's watches are back", func() (bool, string) {
		open := n.counted(func(e kubetest.AuditEntry) bool {
			return e.Verb == "watch" && e.Code == http.StatusOK && e.Received.After(restarted) && !e.Ended
		})
		return len(open) == 5, listed(open)
	})
	// What a watch shows was not asked for.
	gets := func() int {
		asked := n.counted(func(e kubetest.AuditEntry) bool { return e.Verb == "get" && e.Received.After(restarted) })
		return asked["get network-attachment-definitions 200"]
	}
	n.Until("the new definition is known", func() (bool, string) {
		before := gets()
		n.OK("ADD", p)
		n.OK("DEL", p)
		return gets() == before, fmt.Sprint(before)
	})
	n.StopAgent()
}

// A token that is not valid any more is read again, without a restart.
func TestTokenRenewed(t *testing.T) {
	n := New(t, cluster)
	n.Define("shop", "token-a", n.List("token-a", "10.50.0.0/24"), "")
	write := func(token string) {
		n.must(errors.Join(os.WriteFile(n.File("token.new"), []byte(token), 0o600), os.Rename(n.File("token.new"), n.File("token"))))
	}
	old, revoke := n.boundToken("token-old")
	write(old)
	n.must(cluster.Kubeconfig(n.kubeconfig, kubetest.Credential{TokenFile: n.File("token")}))
	n.StartAgent()
	n.WaitReady()
	p := n.Pod("token-web", "token-a")

	revoke()
	client := cluster.RequireClient(t, kubetest.Credential{Token: old})
	n.Until("the old token is refused", func() (bool, string) {
		answer, err := client.Do("GET", "/api/v1/namespaces", nil)
		n.must(err)
		return answer.Code == http.StatusUnauthorized, fmt.Sprint(answer.Code)
	})
	n.within(soon, "ADD with a token that is not valid", func() { n.OK("ADD", p) })
	if n.Status(p) != nil {
		t.Error("the pod has a status: the agent's token was valid")
	}
	write(cluster.RequireToken(t, "kube-system", "multiplexer"))
	n.untilStatus(p, 2)
	n.OK("DEL", p)
	n.StopAgent()
}

// boundToken is a token of the agent's account that is valid as long as a
// secret exists.
func (n *Node) boundToken(secret string) (token string, revoke func()) {
	n.Helper()
	do := func(method, path string, body, into any) {
		answer, err := n.Cluster.Do(method, "/api/v1/namespaces/kube-system/"+path, body)
		n.must(err)
		n.must(answer.Into(into))
	}
	var made struct{ Metadata struct{ UID string } }
	do("POST", "secrets", map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": secret}}, &made)
	var reply struct{ Status struct{ Token string } }
	do("POST", "serviceaccounts/multiplexer/token", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{
			"expirationSeconds": 3600,
			"boundObjectRef":    map[string]any{"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": made.Metadata.UID},
		},
	}, &reply)
	return reply.Status.Token, func() { do("DELETE", "secrets/"+secret, nil, &struct{}{}) }
}

// DEL goes by the journal: it needs neither the definition, nor the agent, nor
// the API server.
func TestDefinitionDeletedWhileItsPodLives(t *testing.T) {
	n := New(t, cluster)
	n.linkedCluster()
	n.Define("shop", "gone-a", n.linked("gone-a", "10.50.0.0/24"), "")
	n.StartAgent()
	n.WaitReady()
	p, other := n.Pod("gone-web", "gone-a"), n.Pod("gone-other", "gone-a")
	before := n.snapshot(p, other)
	n.OK("ADD", p)
	answer, err := cluster.Do("DELETE", "/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions/gone-a", nil)
	n.must(err)
	n.must(answer.Err())
	n.Until("the agent knows that the definition is gone", func() (bool, string) {
		out := n.Run("ADD", other)
		if out.Error() == nil {
			n.OK("DEL", other)
			return false, "a pod still gets it"
		}
		n.Refused(out, 7, "shop/gone-a")
		return true, ""
	})
	n.OK("CHECK", p)
	n.weather(cluster.StopAPI)
	n.KillAgent()
	n.within(soon, "DEL", func() { n.OK("DEL", p) })
	nettest.RequireSame(t, before, n.snapshot(p, other))
	n.OK("DEL", p) // once more, as runtimes do
	calls, err := nettest.Calls(n.File("rec"))
	n.must(err)
	var dels []string
	for _, c := range calls {
		if c.Verb == "DEL" && c.ContainerID == p.Container {
			dels = append(dels, c.Name+" "+c.IfName)
		}
	}
	if len(dels) < 2 || dels[0] != "gone-a net1" || dels[1] != "cluster eth0" {
		t.Errorf("DEL called %q", dels)
	}
}

// snapshot is everything that calls for these pods could leave behind.
func (n *Node) snapshot(pods ...*Pod) string {
	n.Helper()
	namespaces := map[string]string{"node": n.Host.Path()}
	for _, p := range pods {
		namespaces[p.Name] = p.Netns
	}
	shown := nettest.RequireSnapshot(n, nettest.SnapshotOptions{
		Namespaces: namespaces,
		Dirs: []nettest.SnapshotDir{
			{Path: n.File("state"), Label: "state", Files: nettest.FileName},
			{Path: n.File("rec/leases"), Label: "leases", Files: nettest.FileContent},
			{Path: n.Path[0], Label: "delegates", Files: nettest.FileName}, // and who runs them
		},
	})
	// The agent's own: it writes it when it likes.
	var kept []string
	for line := range strings.Lines(shown) {
		if line != "file state/cluster.json\n" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
