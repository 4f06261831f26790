package agenttest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What 50 pods with 3 networks each, and some without, ask of the API server:
// one PATCH each of the 50, and nothing else. Every pod is new to the agent,
// and of some its watch does not tell at all.
func TestAPILoad(t *testing.T) {
	const multi, unseen, plain = 50, 10, 5
	n := New(t, cluster)
	for i, name := range []string{"load-a", "load-b", "load-c"} {
		n.Define("shop", name, n.List(name, fmt.Sprintf("10.%d.0.0/24", 50+i)), "")
	}
	started := time.Now()
	n.StartAgent()
	n.WaitReady()
	ready := time.Now()

	var pods []*Pod
	t.Cleanup(func() {
		for _, p := range pods {
			_ = n.deletePod(p) // unless the test did
		}
	})
	for i := range multi + plain {
		p := &Pod{Namespace: "shop", Name: fmt.Sprintf("load-%d", i), Container: fmt.Sprintf("load-%d", i), Annotations: map[string]string{}}
		if i < multi {
			p.Annotations["k8s.v1.cni.cncf.io/networks"] = "load-a,load-b,load-c"
		}
		p.Netns = nettest.Namespace(n, "pod-").Path()
		pods = append(pods, p)
	}
	// Pods that come and go make the agent look at the journals all the time.
	adds, churn := make(chan struct{}), sync.WaitGroup{}
	churn.Go(func() { t.Log(n.churn(adds), "other pods came and went meanwhile") })
	var adding sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i, p := range pods {
		adding.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			node := Name
			if i < unseen {
				node = "another" // for the agent's watch, as if it lagged
			}
			if err := n.createPodOn(node, p); err != nil {
				t.Error(err)
				return
			}
			out, err := n.Host.CNI(t.Context(), n.Call("ADD", p))
			if err != nil || out.Error() != nil {
				t.Errorf("ADD %s: %v %s", p.Name, err, out)
			}
		})
	}
	adding.Wait()
	close(adds)
	churn.Wait()
	for _, p := range pods[:multi] {
		n.untilStatus(p, 4)
	}
	// Neither do a look at the journals, the DELs and the pods' end.
	n.untilMetric(`multiplexer_attachments{network="shop/load-a"}`, fmt.Sprint(multi))
	for _, p := range pods {
		n.DeletePod(p)
		n.OK("DEL", p)
	}
	n.untilMetric(`multiplexer_attachments{network="shop/load-a"}`, "")
	n.StopAgent()

	asked := n.counted(func(e kubetest.AuditEntry) bool { return e.Received.After(ready) && e.Verb != "watch" })
	if want := map[string]int{"patch pods/status 200": multi}; !maps.Equal(asked, want) {
		t.Errorf("from readiness on, the agent asked\n%s\nwant\n%s", listed(asked), listed(want))
	}
	t.Logf("%d pods with 3 networks and %d without: %s", multi, plain, listed(asked))
	t.Logf("the informers' first lists: %s", listed(n.counted(func(e kubetest.AuditEntry) bool { return e.Received.After(started) && e.Received.Before(ready) })))
	t.Logf("watches begun later: %s", listed(n.counted(func(e kubetest.AuditEntry) bool { return e.Received.After(ready) && e.Verb == "watch" })))
}

// churn creates and deletes pods until a channel is closed.
func (n *Node) churn(end <-chan struct{}) (count int) {
	for ; ; count++ {
		select {
		case <-end:
			return count
		default:
		}
		p := &Pod{Namespace: "shop", Name: fmt.Sprintf("churn-%d", count)}
		if err := errors.Join(n.createPodOn(Name, p), n.deletePod(p)); err != nil {
			n.Error(err)
			return count
		}
	}
}

// what is a request without the name of its object.
func what(e kubetest.AuditEntry) string {
	if e.Subresource != "" {
		e.Resource += "/" + e.Subresource
	}
	return fmt.Sprintf("%s %s %d", e.Verb, e.Resource, e.Code)
}

// counted counts the agents' requests.
func (n *Node) counted(which func(kubetest.AuditEntry) bool) map[string]int {
	n.Helper()
	counts := map[string]int{}
	for _, e := range n.Cluster.RequireAuditLog(n, Account) {
		if which(e) {
			counts[what(e)]++
		}
	}
	return counts
}

func listed(counts map[string]int) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "%d x %s; ", counts[key], key)
	}
	return out.String()
}

// untilStatus waits until a pod shows so many networks.
func (n *Node) untilStatus(p *Pod, networks int) {
	n.Helper()
	n.Until(p.Name+" has its network-status", func() (bool, string) {
		status := n.Status(p)
		return len(status) == networks, fmt.Sprint(status)
	})
}

// untilMetric waits until a metric has a value; "" is none.
func (n *Node) untilMetric(name, want string) {
	n.Helper()
	n.Until(name+" is "+want, func() (bool, string) {
		code, body := n.Get("/metrics")
		got := n.Metric(name)
		return code == 200 && got == want, fmt.Sprintf("it is %q\n%s", got, grepped(body, "multiplexer_"))
	})
}

func grepped(text, word string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, word) && !strings.Contains(line, "_bucket") {
			out.WriteString(line)
		}
	}
	return out.String()
}
