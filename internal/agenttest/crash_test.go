package agenttest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// longest is how long any call may take: nothing is stuck.
const longest = 30 * time.Second

// seeded is a source of random numbers; AGENTTEST_SEED repeats a run, as far as
// processes can be repeated.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("AGENTTEST_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("AGENTTEST_SEED=%d", seed)
	return seed
}

// upTo is a random time below a limit.
func upTo(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(limit)))
}

// linked is a recorder's network with real links.
func (n *Node) linked(name, subnet string) map[string]any {
	list := n.List(name, subnet)
	list["plugins"].([]any)[0].(map[string]any)["steps"] = map[string]any{
		"ADD": []any{map[string]any{"allocate": true}, map[string]any{"link": true}},
	}
	return list
}

// linkedCluster makes the cluster network one with real links.
func (n *Node) linkedCluster() {
	n.Helper()
	raw, err := json.Marshal(n.linked("cluster", "10.0.0.0/16"))
	n.must(err)
	n.must(os.WriteFile(n.File("net.d/10-cluster.conflist"), raw, 0o644))
}

// call is Run for any goroutine, and bounded in time.
func (n *Node) call(verb string, p *Pod) (nettest.Outcome, error) {
	ctx, cancel := context.WithTimeout(n.Context(), longest)
	defer cancel()
	out, err := n.Host.CNI(ctx, n.Call(verb, p))
	if err != nil {
		return out, fmt.Errorf("%s %s: %w", verb, p.Name, err)
	}
	return out, nil
}

// links are the names of the links in a pod, without lo.
func (n *Node) links(p *nettest.NS) []string {
	n.Helper()
	handle, err := p.Handle()
	n.must(err)
	all, err := handle.LinkList()
	n.must(err)
	var names []string
	for _, link := range all {
		if name := link.Attrs().Name; name != "lo" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// The agent is killed, stopped, or both while 20 pods are attached: each has
// all its NICs, or none and error 11, and gets them when the agent is back.
func TestAgentDiesDuringADDs(t *testing.T) {
	n := New(t, cluster)
	n.linkedCluster()
	for i, name := range []string{"crash-a", "crash-b", "crash-c"} {
		n.Define("shop", name, n.linked(name, fmt.Sprintf("10.%d.0.0/24", 50+i)), "")
	}
	seed := seeded(t)
	random := rand.New(rand.NewPCG(seed, 0))
	n.StartAgent()
	n.WaitReady()
	c := &crash{Node: n, takes: time.Second}
	start := time.Now()
	c.round("calm", func() {})
	if c.failed > 0 {
		t.Fatalf("%d of %d ADDs failed though nothing happened", c.failed, crashPods)
	}
	c.takes = time.Since(start)
	for i := range 3 {
		c.round(fmt.Sprintf("killed-%d", i), func() {
			time.Sleep(upTo(random, c.takes*3/4))
			n.KillAgent()
			time.Sleep(upTo(random, time.Second))
			n.StartAgent()
		})
		c.round(fmt.Sprintf("stopped-%d", i), func() {
			time.Sleep(upTo(random, c.takes*3/4))
			n.FreezeAgent()
			time.Sleep(upTo(random, 4*time.Second))
			n.ThawAgent()
		})
		c.round(fmt.Sprintf("both-%d", i), func() {
			time.Sleep(upTo(random, c.takes*3/4))
			n.FreezeAgent()
			time.Sleep(upTo(random, time.Second))
			n.KillAgent()
			n.StartAgent()
		})
	}
	t.Logf("%d ADDs met it, %d of them had to be tried again; the longest took %s", c.added, c.failed, c.slowest.Round(time.Millisecond))
	if c.failed == 0 {
		t.Error("no ADD failed: the agent never died at a wrong moment")
	}
	n.StopAgent()
}

const crashPods = 20

// crash counts what becomes of the ADDs.
type crash struct {
	*Node
	takes time.Duration // 20 ADDs in good weather

	mu            sync.Mutex
	added, failed int
	slowest       time.Duration
}

// round attaches 20 pods while something happens to the agent.
func (c *crash) round(name string, happens func()) {
	c.Helper()
	pods, namespaces := make([]*Pod, crashPods), make([]*nettest.NS, crashPods)
	for i := range pods {
		namespaces[i] = nettest.Namespace(c, "pod-")
		pods[i] = &Pod{
			Namespace: "shop", Name: fmt.Sprintf("%s-%d", name, i), Container: fmt.Sprintf("%s-%d", name, i), Netns: namespaces[i].Path(),
			Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "crash-a,crash-b,crash-c"},
		}
		c.CreatePod(pods[i])
	}
	before := c.snapshot(pods...)
	outcomes := make([]nettest.Outcome, len(pods))
	all := make([]int, len(pods))
	for i := range all {
		all[i] = i
	}
	var adding sync.WaitGroup
	adding.Go(func() { c.parallel("ADD", pods, all, outcomes, c.takes/2/crashPods) })
	happens()
	adding.Wait()

	var again []int
	for i, out := range outcomes {
		e := out.Error()
		if e == nil {
			c.requireWhole(pods[i], namespaces[i], out)
			continue
		}
		again = append(again, i)
		if e.Code != 11 {
			c.Errorf("ADD %s: %s\n%s", pods[i].Name, e, out.Stderr)
		}
		if links := c.links(namespaces[i]); len(links) > 0 || c.Journal(pods[i]) {
			c.Errorf("ADD %s failed (%s) and left a journal (%t) and the links %q", pods[i].Name, e, c.Journal(pods[i]), links)
		}
	}
	c.added, c.failed = c.added+len(pods), c.failed+len(again)
	c.WaitReady()
	c.parallel("ADD", pods, again, outcomes, 0)
	for _, i := range again {
		c.requireWhole(pods[i], namespaces[i], outcomes[i])
	}
	for _, p := range pods {
		c.untilStatus(p, 4)
	}
	c.parallel("DEL", pods, all, outcomes, 0)
	for i, out := range outcomes {
		if e := out.Error(); e != nil {
			c.Errorf("DEL %s: %s\n%s", pods[i].Name, e, out.Stderr)
		}
		c.DeletePod(pods[i])
	}
	nettest.RequireSame(c, before, c.snapshot(pods...))
	c.Logf("%s: %d of %d ADDs had to be tried again", name, len(again), len(pods))
}

// parallel makes a call for some of the pods, one started a little after the
// other.
func (c *crash) parallel(verb string, pods []*Pod, which []int, outcomes []nettest.Outcome, apart time.Duration) {
	var calls sync.WaitGroup
	for _, i := range which {
		calls.Go(func() {
			start := time.Now()
			out, err := c.call(verb, pods[i])
			if err != nil {
				c.Error(err)
			}
			outcomes[i] = out
			c.mu.Lock()
			defer c.mu.Unlock()
			c.slowest = max(c.slowest, time.Since(start))
		})
		time.Sleep(apart)
	}
	calls.Wait()
}

// requireWhole fails the test unless a pod has all its NICs, and its result
// tells so.
func (c *crash) requireWhole(p *Pod, ns *nettest.NS, out nettest.Outcome) {
	c.Helper()
	result, err := out.Result()
	if err != nil {
		c.Errorf("ADD %s: %s", p.Name, err)
		return
	}
	var told []string
	for _, one := range result.Interfaces {
		if one.Sandbox != "" {
			told = append(told, one.Name)
		}
	}
	want := []string{"eth0", "net1", "net2", "net3"}
	if diff := cmp.Diff(want, told) + cmp.Diff(want, c.links(ns)); diff != "" || len(result.IPs) != len(want) {
		c.Errorf("ADD %s succeeded with %d addresses, and its NICs are not all there (-want +got):\n%s", p.Name, len(result.IPs), diff)
	}
}
