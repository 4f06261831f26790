package main

import (
	"context"
	"fmt"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/pkg/agent"
)

// measureAgentMemory starts the agent a few times, in a cluster of a size,
// and looks at its resident memory when it has answered some requests.
func measureAgentMemory(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	var resident, peak, heap []float64
	for range min(p.Least, 5) {
		process, err := s.startAgent(ctx, agent.PublishMulti)
		if err != nil {
			return nil, err
		}
		now, err := s.memoryOf(ctx, process)
		process.kill()
		if err != nil {
			return nil, err
		}
		resident, peak, heap = append(resident, now[0]), append(peak, now[1]), append(heap, now[2])
	}
	return []benchtable.Row{{
		Name: fmt.Sprintf("resident memory of the agent, %d definitions, %d pods", definitionsInAll, podsOfTheNode),
		Unit: "MiB", Ours: benchtable.SpreadOf(resident), Target: benchtable.AtMost(60), Absolute: true,
		Notes: []string{fmt.Sprintf("Of the agent's memory, the heap in use is %s; its peak was %s.", benchtable.SpreadOf(heap).InUnit("MiB"), benchtable.SpreadOf(peak).InUnit("MiB"))},
	}}, nil
}

// memoryOf returns resident memory, its peak and the heap in use, in MiB.
func (s *stand) memoryOf(ctx context.Context, p *daemon) ([3]float64, error) {
	for n := range 10 {
		if err := s.askPlan(ctx, s.kube.pods[n]); err != nil {
			return [3]float64{}, err
		}
	}
	select { // for what it does when it starts
	case <-ctx.Done():
		return [3]float64{}, ctx.Err()
	case <-time.After(time.Second):
	}
	heap, err := p.metric(ctx, "go_memstats_heap_inuse_bytes")
	if err != nil {
		return [3]float64{}, err
	}
	resident, err := memoryNow(p.cmd.Process.Pid, "VmRSS")
	if err != nil {
		return [3]float64{}, err
	}
	peak, err := memoryNow(p.cmd.Process.Pid, "VmHWM")
	return [3]float64{resident, peak, heap / mib}, err
}

const mib = 1 << 20
