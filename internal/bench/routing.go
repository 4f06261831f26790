package main

import (
	"context"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
)

// measureRouting compares the routing rules with leaving the routes alone: for
// a pod with two more networks, and for one with the cluster network only,
// which they must not cost anything.
func measureRouting(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	pod, err := s.pod(0)
	if err != nil {
		return nil, err
	}
	p.Takes /= 2
	var rows []benchtable.Row
	for _, test := range []struct {
		secondaries int
		add         benchtable.Target
	}{{2, benchtable.AtMost(2)}, {0, benchtable.AtMost(0.2)}} {
		call := func(c caller) func() ([]float64, error) {
			return func() ([]float64, error) { return c.cycle(ctx, pod) }
		}
		got, pairsErr := p.Pairs(ctx, call(s.guardedFor(test.secondaries)), call(s.oursFor(test.secondaries, nil)))
		if pairsErr != nil {
			return nil, pairsErr
		}
		for k, verb := range []string{"ADD", "DEL"} {
			r := benchtable.Row{Name: fmt.Sprintf("%s, %d secondary networks, guard", verb, test.secondaries), Unit: "ms"}
			if verb == "ADD" {
				r.Target = test.add
			}
			difference := got.Difference(k)
			r.Ours, r.Floor, r.Ratio = got.Value(k)
			r.Difference = &difference
			rows = append(rows, r)
		}
	}
	return rows, nil
}
