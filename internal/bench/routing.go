package main

import (
	"context"
	"fmt"
)

// measureRouting compares the routing rules with leaving the routes alone: for
// a pod with two more networks, and for one with the cluster network only,
// which they must not cost anything.
func measureRouting(ctx context.Context, s *stand, p pace) ([]row, error) {
	pod, err := s.pod(0)
	if err != nil {
		return nil, err
	}
	p.takes /= 2
	var rows []row
	for _, test := range []struct {
		secondaries int
		add         target
	}{{2, atMost(2)}, {0, atMost(0.2)}} {
		call := func(c caller) func() ([]float64, error) {
			return func() ([]float64, error) { return c.cycle(ctx, pod) }
		}
		got, pairsErr := p.pairs(ctx, call(s.guardedFor(test.secondaries)), call(s.oursFor(test.secondaries, nil)))
		if pairsErr != nil {
			return nil, pairsErr
		}
		for k, verb := range []string{"ADD", "DEL"} {
			r := row{name: fmt.Sprintf("%s, %d secondary networks, guard", verb, test.secondaries), unit: "ms"}
			if verb == "ADD" {
				r.target = test.add
			}
			difference := got.difference(k)
			r.ours, r.floor, r.ratio = got.value(k)
			r.difference = &difference
			rows = append(rows, r)
		}
	}
	return rows, nil
}
