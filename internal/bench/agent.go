package main

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/libcni"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
)

// measureAgent compares ADD and DEL through the agent, which knows the same
// networks as definitions, with multiplexer that reads them from files.
func measureAgent(ctx context.Context, s *stand, p pace) ([]row, error) {
	p.takes /= 2
	var rows []row
	for _, test := range []struct {
		publish string
		what    string
		add     target
	}{
		{agent.PublishOff, "through the agent", atMost(1.05)},
		{agent.PublishMulti, "agent that publishes", atMost(1.3)},
	} {
		more, err := s.compareAgent(ctx, p, test.publish)
		if err != nil {
			return nil, fmt.Errorf("--publish %s: %w", test.publish, err)
		}
		more[0].target = test.add
		for i, verb := range []string{"ADD", "DEL"} {
			more[i].name = fmt.Sprintf("%s, %d secondary networks, %s", verb, secondariesOfAgent, test.what)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

const secondariesOfAgent = 2

// compareAgent returns the rows of ADD and of DEL.
func (s *stand) compareAgent(ctx context.Context, p pace, publish string) ([]row, error) {
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
	got, err := p.pairs(ctx,
		func() ([]float64, error) { attached++; return through.cycle(ctx, pod) },
		func() ([]float64, error) { return without.cycle(ctx, pod) })
	if err != nil {
		return nil, err
	}
	if err = process.didPublish(ctx, publish, attached); err != nil {
		return nil, err
	}
	rows := make([]row, 2)
	for k := range rows {
		rows[k].unit = "ms"
		rows[k].ours, rows[k].floor, rows[k].ratio = got.value(k)
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
