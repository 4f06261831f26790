package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// askPlan makes the request that a plugin makes for a pod with two networks.
func (s *stand) askPlan(ctx context.Context, p *pod) error {
	known, err := agentapi.Ask(ctx, s.socket(), agentapi.Request{
		Verb: agentapi.VerbPlan, Home: "kube-system",
		Pod: agentapi.Pod{Namespace: namespaceOfAll, Name: p.name, UID: p.uid, Annotations: map[string]string{networksOfAPod: "bench1,bench2"}},
	})
	if err == nil && len(known.Definitions) != 2 {
		err = fmt.Errorf("the agent knows %d definitions of the pod's, want 2", len(known.Definitions))
	}
	return err
}

// measureRequests counts the plans that the agent answers in a second. Who
// asks takes part of the same CPUs, so it could do more.
func measureRequests(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	const clients = 4
	process, err := s.startAgent(ctx, agent.PublishMulti)
	if err != nil {
		return nil, err
	}
	defer process.kill()
	ctx, stop := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	var answered atomic.Int64
	failed := make(chan error, clients)
	for n := range clients {
		asking.Go(func() {
			for ctx.Err() == nil {
				if askErr := s.askPlan(ctx, s.kube.pods[n]); askErr != nil {
					failed <- askErr
					return
				}
				answered.Add(1)
			}
		})
	}
	samples, err := rates(ctx, p.Takes, &answered, failed)
	if err != nil {
		return nil, err
	}
	resident, err := memoryNow(process.cmd.Process.Pid, "VmRSS")
	if err != nil {
		return nil, err
	}
	return []benchtable.Row{{
		Name: fmt.Sprintf("plans of the agent, 2 secondary networks, %d at once", clients), Unit: "plans/s",
		Ours: benchtable.SpreadOf(samples), Target: benchtable.AtLeast(2000), Absolute: true,
		Notes: []string{fmt.Sprintf("After %d plans, the agent's resident memory is %.2f MiB.", answered.Load(), resident)},
	}}, nil
}

// rates reads a counter again and again, and returns how fast it went. The
// first time warms up.
func rates(ctx context.Context, takes time.Duration, counter *atomic.Int64, failed <-chan error) ([]float64, error) {
	var out []float64
	for end := time.Now().Add(takes); len(out) < 2 || time.Now().Before(end); {
		start, before := time.Now(), counter.Load()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-failed:
			return nil, err
		case <-time.After(250 * time.Millisecond):
		}
		out = append(out, float64(counter.Load()-before)/time.Since(start).Seconds())
	}
	return out[1:], nil
}
