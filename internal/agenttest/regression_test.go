package agenttest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// A node whose cluster network is a definition gets its first pod although
// no ADD has asked for that definition yet, and the agent mends its last word.
func TestStatusBeforeTheFirstPod(t *testing.T) {
	t.Parallel()
	n := New(t, cluster)
	n.Define("kube-system", "first-main", n.List("first-main", "10.60.0.0/16"), "")
	n.Config = map[string]any{"clusterNetwork": "kube-system/first-main"}
	n.StartAgent()
	n.WaitReady()
	p := n.Pod("first", "")
	n.OK("STATUS", p)
	n.OK("ADD", p)
	n.must(os.WriteFile(n.File("state/cluster.json"), nil, 0o600))
	n.OK("STATUS", p)
	n.Until("the last word is written again", func() (bool, string) {
		raw, err := os.ReadFile(n.File("state/cluster.json"))
		return strings.Contains(string(raw), "first-main"), fmt.Sprint(string(raw), err)
	})
	n.OK("DEL", p)
}

// An agent that cannot run takes nothing from the one that does; one whose
// socket is gone with its thief ends, so that it is started again.
func TestSocketIsTakenOverByWhoRuns(t *testing.T) {
	n := ready(t)
	n.Define("shop", "theft", n.List("theft", "10.61.0.0/24"), "")
	out, err := exec.Command(n.agent.cmd.Path, n.agent.cmd.Args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "choose another") {
		t.Errorf("a second agent at the same address: %v\n%s", err, out)
	}
	p := n.Pod("theft", "theft")
	n.OK("ADD", p)
	n.OK("DEL", p)

	older := n.agent
	n.StartAgent()
	n.WaitReady()
	n.KillAgent()
	n.agent = older
	n.Until("the older agent ends", func() (bool, string) {
		select {
		case <-older.ended:
			return strings.Contains(n.AgentLog(), "our socket is gone"), n.AgentLog()
		default:
			return false, "it runs"
		}
	})
}

// weatherProxy stands before the API server and hides some of it.
func (n *Node) weatherProxy(hidden func(path string) bool) (down *atomic.Bool) {
	n.Helper()
	target, err := url.Parse(n.Cluster.URL())
	n.must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own server
	proxy.FlushInterval = -1
	token := n.Cluster.RequireToken(n, "kube-system", "multiplexer")
	down = &atomic.Bool{}
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", freePort(n)), ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() && hidden(r.URL.Path) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.Header.Set("Authorization", "Bearer "+token)
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.ListenAndServe() }() // it ends with Close
	n.Cleanup(func() { n.must(server.Close()) })
	raw, err := os.ReadFile(n.kubeconfig)
	n.must(err)
	n.must(os.WriteFile(n.kubeconfig, []byte(strings.ReplaceAll(string(raw), n.Cluster.URL(), "http://"+server.Addr)), 0o600))
	return down
}

// An agent that does not know the cluster's ranges yet answers with those of
// the agent before, or not at all.
func TestFactsOfTheAgentBefore(t *testing.T) {
	t.Parallel()
	n := New(t, cluster)
	n.Define("shop", "before", n.List("before", "10.62.0.0/24"), "")
	down := n.weatherProxy(func(path string) bool { return strings.Contains(path, "/nodes") })
	n.StartAgent()
	n.WaitReady()
	n.StopAgent()
	down.Store(true)
	n.StartAgent()
	ask := func() (known *agentapi.Known, err error) {
		return agentapi.Ask(n.Context(), n.Socket(), agentapi.Request{
			Verb: agentapi.VerbPlan, Pod: agentapi.Pod{Namespace: "shop", Name: "before", Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "before"}},
		})
	}
	n.Until("the agent answers", func() (bool, string) {
		known, err := ask()
		return err == nil && strings.Contains(fmt.Sprint(known.Ranges), "10.244.7.0/24"), fmt.Sprint(known, err)
	})
	n.StopAgent()
	n.must(os.Remove(n.File("state/cluster.json")))
	n.StartAgent()
	n.Until("the agent refuses", func() (bool, string) {
		_, err := ask()
		return err != nil && strings.Contains(err.Error(), "ranges are not known yet"), fmt.Sprint(err)
	})
}

// Changes that never end do not put the last word off.
func TestLastWordIsNotStarved(t *testing.T) {
	n := ready(t)
	n.Namespace("starved", "")
	lists := [][]agentapi.Reference{{{Namespace: "kube-system", Name: "x"}}, {{Namespace: "kube-system", Name: "y"}}}
	n.Namespace("starved", "a")
	turn := 0
	n.Until("the namespace is in the last word", func() (bool, string) {
		for range 20 { // more often than the agent settles
			turn++
			request := agentapi.Request{Verb: agentapi.VerbPlan, Networks: lists[turn%2], Pod: agentapi.Pod{Namespace: "shop", Name: "x", Annotations: map[string]string{}}}
			if _, err := agentapi.Ask(n.Context(), n.Socket(), request); err != nil {
				return false, err.Error()
			}
		}
		word, err := agentapi.LoadCopy(n.File("state"))
		return err == nil && word.HasNetworks("starved"), fmt.Sprint(word, err)
	})
}

// An agent that cannot write its last word is not ready.
func TestLastWordThatCannotBeWritten(t *testing.T) {
	n := ready(t)
	file := n.File("state/cluster.json")
	n.must(unix.Mount(file, file, "", unix.MS_BIND, ""))
	defer func() { n.must(unix.Unmount(file, unix.MNT_DETACH)) }()
	n.Namespace("full", "a")
	n.Until("the agent says so", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "last word"), body
	})
}

// The mirror of a static pod that is created anew gets its status again.
func TestMirrorCreatedAnew(t *testing.T) {
	n := ready(t)
	n.Define("shop", "mirror-a", n.List("mirror-a", "10.63.0.0/24"), "")
	p := n.NewPod("shop", "mirror.node-a", "mirror-a")
	p.Annotations["kubernetes.io/config.hash"], p.Annotations["kubernetes.io/config.mirror"] = "hash1", "hash1"
	n.CreatePod(p)
	p.UID = "hash1"
	n.OK("ADD", p)
	n.DeletePod(p)
	n.CreatePod(p)
	n.Until("the new mirror has a status", func() (bool, string) { return len(n.Status(p)) == 2, n.AgentLog() })
}

// A status that the API server refuses is refused once.
func TestRefusedStatus(t *testing.T) {
	n := ready(t)
	n.Define("shop", "full-a", n.List("full-a", "10.64.0.0/24"), "")
	p := n.NewPod("shop", "full", "full-a")
	p.Annotations["filler"] = strings.Repeat("x", 256<<10-100)
	n.CreatePod(p)
	delete(p.Annotations, "filler")
	n.OK("ADD", p)
	looks := func() (count int) {
		_, err := fmt.Sscan(n.Metric(`multiplexer_request_duration_seconds_count{phase="patch",verb="publish"}`), &count)
		n.must(err)
		return count
	}
	q := n.Pod("afterwards", "full-a") // its status comes by the same looks
	n.must(os.WriteFile(n.File("state/cluster.json"), nil, 0o600))
	for range 2 { // each look at the journals mends the file
		n.Until("the agent looks", func() (bool, string) {
			word, err := agentapi.LoadCopy(n.File("state"))
			return err == nil && word != nil, fmt.Sprint(err)
		})
		n.must(os.WriteFile(n.File("state/cluster.json"), nil, 0o600))
	}
	n.same(looks(), 1)
	n.same(strings.Count(n.AgentLog(), "network-status cannot be published"), 1)
	n.OK("ADD", q)
	n.same(len(n.Shown(q)), 2)
}

// Whoever connects to the metrics' port takes no more than a few descriptors.
func TestManyWatchers(t *testing.T) {
	n := ready(t)
	n.Define("shop", "watched", n.List("watched", "10.65.0.0/24"), "")
	files := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.AgentPid()))
		n.must(err)
		return len(entries)
	}
	before := files()
	for range 60 {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 100 * time.Millisecond}
		if answer, err := client.Get("http://" + n.agent.address + "/healthz"); err == nil {
			var body [8]byte
			_, _ = answer.Body.Read(body[:])
			n.must(answer.Body.Close())
		}
		defer client.CloseIdleConnections()
	}
	if now := files(); now > before+30 {
		t.Errorf("%d descriptors, %d before", now, before)
	}
	p := n.Pod("watched", "watched")
	n.OK("ADD", p)
}

// An agent that is stopped at any instant holds no journal's lock. That of
// the state directory tells uninstall alone that it hands out devices.
func TestAgentTakesNoLock(t *testing.T) {
	n := ready(t)
	n.Define("shop", "lock-a", n.List("lock-a", "10.66.0.0/24"), "")
	p := n.Pod("lock", "lock-a")
	n.OK("ADD", p)
	raw, err := os.ReadFile(n.File("state/journal/" + p.Container))
	n.must(err)
	var dir unix.Stat_t
	n.must(unix.Stat(n.File("state"), &dir))
	own := fmt.Sprintf(":%d", dir.Ino)
	for i := range 200 {
		n.must(os.WriteFile(n.File(fmt.Sprintf("state/journal/other-%d", i)), raw, 0o600))
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n.FreezeAgent()
		locks, readErr := os.ReadFile("/proc/locks")
		n.must(readErr)
		for line := range strings.Lines(string(locks)) {
			if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[4] == fmt.Sprint(n.AgentPid()) && !strings.HasSuffix(f[5], own) {
				t.Fatalf("the agent holds a lock: %s", line)
			}
		}
		n.ThawAgent()
	}
}

// Behind the cluster network in one list, nothing can take its place.
func TestDefaultNetworkInAChain(t *testing.T) {
	n := ready(t)
	n.Define("shop", "chained", n.List("chained", "10.67.0.0/24"), "")
	p := n.Pod("chained", "")
	p.Annotations["v1.multus-cni.io/default-network"] = "shop/chained"
	var prev any
	n.must(json.Unmarshal([]byte(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"`+p.Netns+`"}],"ips":[{"address":"10.0.0.9/16","interface":0}]}`), &prev))
	n.Config = map[string]any{"prevResult": prev}
	n.Refused(n.Run("ADD", p), 7, "v1.multus-cni.io/default-network", "stands before multiplexer", "first place")
}

// An agent that was told a wrong name for its node says so.
func TestWrongNodeName(t *testing.T) {
	t.Parallel()
	n := New(t, cluster)
	n.Flags = []string{"--node-name", "node-z"}
	n.StartAgent()
	n.Until("the agent names the node", func() (bool, string) {
		code, body := n.Get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, `no Node "node-z"`) && strings.Contains(body, "--node-name"), body
	})
}
