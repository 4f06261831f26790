package agenttest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// An agent that is frozen is as good as absent: pods that ask for networks
// wait, others and the ends of all do not.
func TestFrozenAndAbsentAgent(t *testing.T) {
	n := ready(t)
	n.Define("shop", "wire-a", n.List("wire-a", "10.51.0.0/24"), "")
	living := n.Pod("wire-living", "wire-a")
	n.OK("ADD", living)
	atOnce := func(verb string, p *Pod) {
		t.Helper()
		since := n.awake()
		n.OK(verb, p)
		if took := since(); took >= 2*time.Second { // the patience with an agent
			t.Errorf("%s %s took %s", verb, p.Name, took)
		}
	}
	for name, end := range map[string]struct{ begin, end func() }{
		"frozen": {n.FreezeAgent, n.ThawAgent},
		"absent": {n.KillAgent, func() { n.StartAgent(); n.WaitReady() }},
	} {
		end.begin()
		p, plain := n.Pod("wire-"+name, "wire-a"), n.Pod("wire-plain-"+name, "")
		n.Refused(n.soon("ADD", p), 11, "agent at "+n.Socket(), "wait until it answers")
		n.same(n.Called("ADD", p), []string(nil))
		n.same(n.Journal(p), false)
		atOnce("ADD", plain)
		atOnce("DEL", plain)
		atOnce("DEL", p)
		end.end()
		n.OK("ADD", p)
		n.same(n.names(p), []string{"cluster", "shop/wire-a"})
		n.OK("DEL", p)
	}
	n.FreezeAgent()
	atOnce("DEL", living)
	n.ThawAgent()
}

// Health and metrics say how the agent is, and each metric moves.
func TestHealthAndMetrics(t *testing.T) {
	n := ready(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		code, body := n.Get(path)
		n.same([]any{code, body}, []any{http.StatusOK, "ok\n"})
	}
	n.Define("shop", "metric-a", n.List("metric-a", "10.51.0.0/24"), "")
	n.Define("shop", "metric-b", n.Stepped("metric-b", "10.52.0.0/24", obj{"DEL": []any{obj{"error": obj{"code": 999, "msg": "no"}}}}), "")
	p, stuck := n.Pod("metric", "metric-a,metric-a"), n.Pod("metric-stuck", "metric-b")
	n.OK("ADD", p)
	n.OK("ADD", stuck)
	n.Refused(n.Run("DEL", stuck), 999)
	n.Run("ADD", n.Pod("metric-never", "metric-never"))
	for metric, value := range map[string]string{
		`multiplexer_requests_total{result="ok",verb="plan"}`:                                 "3",
		`multiplexer_requests_total{result="ok",verb="publish"}`:                              "2",
		`multiplexer_requests_total{result="ok",verb="failed"}`:                               "1",
		`multiplexer_request_duration_seconds_count{phase="whole",verb="plan"}`:               "3",
		`multiplexer_request_duration_seconds_count{phase="definitions",verb="plan"}`:         "3",
		`multiplexer_request_duration_seconds_bucket{phase="whole",verb="publish",le="+Inf"}`: "2",
		`multiplexer_attachments{network="shop/metric-a"}`:                                    "2",
		`multiplexer_journal_entries{state="attached"}`:                                       "1",
		`multiplexer_journal_entries{state="release-failed"}`:                                 "1",
		`multiplexer_leftovers`:            "1",
		`multiplexer_status_retries_total`: "0",
	} {
		n.untilMetric(metric, value)
	}
	for _, begin := range []string{`multiplexer_build_info{goversion="go1.`, "go_goroutines ", "process_resident_memory_bytes "} {
		if _, body := n.Get("/metrics"); !strings.Contains(body, "\n"+begin) {
			t.Errorf("no metric %s", begin)
		}
	}
	n.OK("DEL", p)
	n.untilMetric(`multiplexer_attachments{network="shop/metric-a"}`, "")

	binary, err := nettest.AgentPath()
	n.must(err)
	help, err := exec.Command(binary, "run", "--help").CombinedOutput()
	n.must(err)
	if !strings.Contains(string(help), `(default "127.0.0.1:9745")`) {
		t.Errorf("metrics are served to others than this node by default:\n%s", help)
	}
}

// Of two agents, as a DaemonSet's update may run for a moment, the newer one
// answers; the older one's end does not take the socket away.
func TestTwoAgents(t *testing.T) {
	n := ready(t)
	n.Define("shop", "two-a", n.List("two-a", "10.51.0.0/24"), "")
	older := n.agent
	n.StartAgent()
	n.WaitReady()
	newer := n.agent
	p := n.Pod("two", "two-a")
	answered := func(want string) {
		t.Helper()
		n.OK("ADD", p)
		n.OK("DEL", p)
		n.same(n.Metric(`multiplexer_requests_total{result="ok",verb="plan"}`), want)
	}
	answered("1")
	n.agent = older
	n.same(n.Metric(`multiplexer_requests_total{result="ok",verb="plan"}`), "")
	n.StopAgent()
	n.agent = newer
	answered("2")
	info, err := os.Stat(n.Socket())
	n.must(err)
	n.same(info.Mode().Perm(), os.FileMode(0o600))
	n.StopAgent()
	entries, err := os.ReadDir(n.Dir)
	n.must(err)
	for _, e := range entries { // each agent makes its socket under a name of its own
		if strings.HasPrefix(e.Name(), "agent.sock.") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// An agent that cannot work says so at once.
func TestFlags(t *testing.T) {
	t.Parallel()
	binary, err := nettest.AgentPath()
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--node-name":     {"--node-name", ""},
		"--publish":       {"--node-name", "a", "--publish", "some"},
		"--events":        {"--node-name", "a", "--events", "some"},
		"--cluster-cidrs": {"--node-name", "a", "--cluster-cidrs", "0.0.0.0/0"},
		"--sweep":         {"--node-name", "a", "--sweep", "1ms"},
		"--socket":        {"--node-name", "a", "--socket", "agent.sock"},
		"--kubeconfig":    {"--node-name", "a", "--kubeconfig", "/nowhere"},
		"--log-level":     {"--node-name", "a", "--log-level", "loud"},
	} {
		out, runErr := exec.Command(binary, append([]string{"run"}, args...)...).CombinedOutput()
		if runErr == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v %s", args, runErr, fmt.Sprintf("%.300s", out))
		}
	}
}
