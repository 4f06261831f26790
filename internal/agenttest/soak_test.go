package agenttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const (
	soakPods    = 2000
	soakWorkers = 8
)

// 2,000 pods come and go, 8 at a time, while the agent dies again and again,
// and plugins die at their work: nothing is left behind.
func TestSoak(t *testing.T) {
	n := New(t, cluster)
	n.Define("shop", "soak-a", n.List("soak-a", "10.50.0.0/24"), "")
	n.Define("shop", "soak-b", n.List("soak-b", "10.51.0.0/24"), "")
	n.Define("shop", "soak-link", n.linked("soak-link", "10.52.0.0/24"), "")
	n.StartAgent()
	n.WaitReady()
	// One pod is there all the time: nobody may release it.
	stays := n.Pod("soak-stays", "soak-a,soak-link")
	n.OK("ADD", stays)
	namespaces := make([]*nettest.NS, soakWorkers)
	watched := []*Pod{stays}
	for i := range namespaces {
		namespaces[i] = nettest.Namespace(t, "pod-")
		watched = append(watched, &Pod{Name: fmt.Sprintf("worker-%d", i), Netns: namespaces[i].Path()})
	}
	before := n.snapshot(watched...)

	seed, start := seeded(t), time.Now()
	s := &soak{Node: n}
	var working sync.WaitGroup
	for i, ns := range namespaces {
		working.Go(func() { s.work(rand.New(rand.NewPCG(seed, uint64(i+1))), ns) })
	}
	ended := make(chan struct{})
	go func() { working.Wait(); close(ended) }()
	s.hitAgent(rand.New(rand.NewPCG(seed, 0)), ended)
	took := time.Since(start)

	n.WaitReady()
	n.settles()
	nettest.RequireSame(t, before, n.snapshot(watched...))
	n.untilStatus(stays, 3)
	n.OK("DEL", stays)
	n.DeletePod(stays)
	n.StopAgent()
	t.Logf("%d ADD/DEL in %s: the agent was killed %d times and stopped %d times, %d ADDs and %d DELs were killed, %d ADDs were refused, %d DELs tried again; the longest call took %s",
		s.begun.Load()-soakWorkers, took.Round(time.Second), s.kills, s.stops, s.killedADDs.Load(), s.killedDELs.Load(), s.refused.Load(), s.repeated.Load(),
		time.Duration(s.slowest.Load()).Round(time.Millisecond))
	if s.killedADDs.Load() < soakPods/50 || s.killedDELs.Load() < soakPods/50 || s.kills < 3 || s.refused.Load() == 0 {
		t.Error("too little happened")
	}
}

// settles waits until the agent knows of one pod's journal alone, and has
// nothing more to tell the API server.
func (n *Node) settles() {
	n.Helper()
	n.untilMetric(`multiplexer_journal_entries{state="attached"}`, "1")
	n.untilMetric("multiplexer_leftovers", "0")
	var quiet time.Time
	last := ""
	n.Until("the agent tries no status again", func() (bool, string) {
		now := n.Metric("multiplexer_status_retries_total") + " " + n.Metric(`multiplexer_request_duration_seconds_count{phase="patch",verb="publish"}`)
		if now != last {
			last, quiet = now, time.Now()
		}
		return time.Since(quiet) > 3*time.Second, now // its sweep is 1 s
	})
}

type soak struct {
	*Node
	kills, stops                                              int
	begun, killedADDs, killedDELs, refused, repeated, slowest atomic.Int64
}

// hitAgent kills or stops the agent again and again.
func (s *soak) hitAgent(random *rand.Rand, end <-chan struct{}) {
	for {
		select {
		case <-end:
			return
		case <-time.After(200*time.Millisecond + upTo(random, 4*time.Second)):
		}
		if random.IntN(4) == 0 {
			s.stops++
			s.FreezeAgent()
			time.Sleep(upTo(random, 500*time.Millisecond))
			s.ThawAgent()
			continue
		}
		s.kills++
		s.KillAgent()
		s.StartAgent()
	}
}

// work attaches and detaches one pod after the other.
func (s *soak) work(random *rand.Rand, ns *nettest.NS) {
	for !s.Failed() {
		i := s.begun.Add(1)
		if i > soakPods {
			return
		}
		p := &Pod{Namespace: "shop", Name: fmt.Sprintf("soak-%d", i), Container: fmt.Sprintf("soak-%d", i), Netns: ns.Path()}
		p.Annotations = map[string]string{network.NetworksAnnotation: "soak-a,soak-b"}
		switch random.IntN(10) {
		case 0:
			p.Annotations[network.NetworksAnnotation] = "soak-a,soak-link"
		case 1:
			p.Annotations = map[string]string{} // the cluster network alone
		}
		if err := errors.Join(s.createPodOn(Name, p), s.comeAndGo(random, p), s.deletePod(p)); err != nil {
			s.Error(err)
			return
		}
	}
}

// comeAndGo is one pod: what runtime and kubelet do when a plugin fails or
// dies is DEL until it succeeds.
func (s *soak) comeAndGo(random *rand.Rand, p *Pod) error {
	out, killed, err := s.maybeKilled(random, "ADD", p)
	switch e := out.Error(); {
	case err != nil:
		return err
	case killed:
		s.killedADDs.Add(1)
	case e == nil:
	case e.Code == 11 && len(p.Annotations) > 0:
		s.refused.Add(1)
		if s.Journal(p) {
			return fmt.Errorf("ADD %s was refused and left a journal: %s", p.Name, e)
		}
	default:
		return fmt.Errorf("ADD %s: %s", p.Name, out)
	}
	if out, killed, err = s.maybeKilled(random, "DEL", p); err != nil {
		return err
	}
	if killed {
		s.killedDELs.Add(1)
	}
	for tries := 0; out.ExitCode != 0; tries++ {
		if tries == 5 {
			return fmt.Errorf("DEL %s: %s", p.Name, out)
		}
		if !killed {
			s.repeated.Add(1)
			s.Logf("DEL %s is repeated: %s", p.Name, out)
		}
		killed = false
		if out, err = s.call("DEL", p); err != nil {
			return err
		}
	}
	if s.Journal(p) {
		return fmt.Errorf("DEL %s left the journal", p.Name)
	}
	return nil
}

// maybeKilled makes a call, and kills every eighth in the middle.
func (s *soak) maybeKilled(random *rand.Rand, verb string, p *Pod) (out nettest.Outcome, killed bool, err error) {
	start := time.Now()
	defer func() {
		for took := int64(time.Since(start)); ; {
			if last := s.slowest.Load(); took <= last || s.slowest.CompareAndSwap(last, took) {
				return
			}
		}
	}()
	if random.IntN(8) != 0 {
		out, err = s.call(verb, p)
		return out, false, err
	}
	process, err := s.Host.StartCNI(s.Context(), s.Call(verb, p))
	if err != nil {
		return out, false, err
	}
	select {
	case <-process.Done():
	case <-time.After(upTo(random, 150*time.Millisecond)):
		err = process.Kill()
	}
	out, waitErr := process.Wait()
	return out, out.Signal == syscall.SIGKILL, errors.Join(err, waitErr)
}
