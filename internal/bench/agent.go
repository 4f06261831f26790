package main

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/libcni"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/pkg/agent"
)

// measureAgent compares ADD and DEL through the agent, which knows the same
// networks as definitions, with multiplexer that reads them from files.
func measureAgent(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	p.Takes /= 2
	var rows []benchtable.Row
	for _, test := range []struct {
		publish string
		what    string
		add     benchtable.Target
	}{
		{agent.PublishOff, "through the agent", benchtable.AtMost(1.05)},
		{agent.PublishMulti, "agent that publishes", benchtable.AtMost(1.3)},
	} {
		more, err := s.compareAgent(ctx, p, test.publish)
		if err != nil {
			return nil, fmt.Errorf("--publish %s: %w", test.publish, err)
		}
		more[0].Target = test.add
		for i, verb := range []string{"ADD", "DEL"} {
			more[i].Name = fmt.Sprintf("%s, %d secondary networks, %s", verb, secondariesOfAgent, test.what)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

const secondariesOfAgent = 2

// compareAgent returns the rows of ADD and of DEL.
func (s *stand) compareAgent(ctx context.Context, p benchtable.Pace, publish string) ([]benchtable.Row, error) {
	process, err := s.startAgent(ctx, publish)
	if err != nil {
		return nil, err
	}
	defer process.kill()
	pod, err := s.kube.pod(0)
	if err != nil {
		return nil, err
	}
	through, err := s.throughAgent("cluster", secondariesOfAgent)
	if err != nil {
		return nil, err
	}
	without := s.oursFor(secondariesOfAgent, nil)
	attached := 0
	got, err := p.Pairs(ctx,
		func() ([]float64, error) { attached++; return through.cycle(ctx, pod) },
		func() ([]float64, error) { return without.cycle(ctx, pod) })
	if err != nil {
		return nil, err
	}
	if err = process.didPublish(ctx, publish, attached); err != nil {
		return nil, err
	}
	rows := make([]benchtable.Row, 2)
	for k := range rows {
		rows[k].Unit = "ms"
		rows[k].Ours, rows[k].Floor, rows[k].Ratio = got.Value(k)
	}
	return rows, nil
}

// throughAgent is oursFor with the agent, and with a cluster network.
func (s *stand) throughAgent(cluster string, secondaries int) (caller, error) {
	list, err := libcni.ConfListFromBytes(s.configuration(cluster, "plain", s.socket()))
	if err != nil {
		return caller{}, err
	}
	c := s.oursFor(secondaries, nil)
	c.lists = []*libcni.NetworkConfigList{list}
	return c, nil
}

// didPublish makes sure that what was measured is what it is called: each
// ADD asked the agent, and each wrote to the API server, or none did.
func (p *daemon) didPublish(ctx context.Context, publish string, attached int) error {
	patched := 0
	if publish != agent.PublishOff {
		patched = attached
	}
	for metric, want := range map[string]int{
		`multiplexer_requests_total{result="ok",verb="plan"}`:                      attached,
		`multiplexer_request_duration_seconds_count{phase="patch",verb="publish"}`: patched,
	} {
		got, err := p.metric(ctx, metric)
		if err != nil {
			return err
		}
		if int(got) != want {
			return fmt.Errorf("the agent says %s %g, want %d", metric, got, want)
		}
	}
	return nil
}
