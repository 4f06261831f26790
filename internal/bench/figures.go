package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measureStart compares VERSION, which is little more than the start of a
// process, with the bridge plugin's.
func measureStart(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	call := func(bin string) func() ([]float64, error) {
		return func() ([]float64, error) {
			cmd := exec.CommandContext(ctx, bin)
			cmd.Env = append(os.Environ(), "CNI_COMMAND=VERSION")
			cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion":"` + cniVersion + `"}`))
			start := time.Now()
			out, err := cmd.Output()
			took := time.Since(start)
			if err != nil {
				return nil, fmt.Errorf("%s: VERSION: %w: %s", bin, err, out)
			}
			return []float64{milliseconds(took)}, nil
		}
	}
	got, err := p.Pairs(ctx, call(s.bin), call(filepath.Join(s.plugins, "bridge")))
	if err != nil {
		return nil, err
	}
	r := benchtable.Row{Name: "start (VERSION; floor: the bridge plugin)", Unit: "ms", Target: benchtable.AtMost(1.6)}
	r.Ours, r.Floor, r.Ratio = got.Value(0)
	return []benchtable.Row{r}, nil
}

// measureNetworks compares ADD and DEL of one pod at a time.
func measureNetworks(secondaries int) func(context.Context, *stand, benchtable.Pace) ([]benchtable.Row, error) {
	return func(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
		pod, err := s.pod(0)
		if err != nil {
			return nil, err
		}
		call := func(c caller) func() ([]float64, error) {
			return func() ([]float64, error) { return c.cycle(ctx, pod) }
		}
		got, err := p.Pairs(ctx, call(s.oursFor(secondaries, nil)), call(s.floorFor(secondaries, nil)))
		if err != nil {
			return nil, err
		}
		add := benchtable.Row{Name: fmt.Sprintf("ADD, %d secondary networks", secondaries), Unit: "ms", Target: addTarget(secondaries)}
		add.Ours, add.Floor, add.Ratio = got.Value(0)
		del := benchtable.Row{Name: fmt.Sprintf("DEL, %d secondary networks", secondaries), Unit: "ms", Target: benchtable.AtMost(1.1)}
		del.Ours, del.Floor, del.Ratio = got.Value(1)
		return []benchtable.Row{add, del}, nil
	}
}

// addTarget is none without secondaries: what is the same for every pod
// weighs most there, and the start of a process has a figure of its own.
func addTarget(secondaries int) benchtable.Target {
	switch secondaries {
	case 2:
		return benchtable.AtMost(1.2)
	case 8:
		return benchtable.AtMost(1.12)
	}
	return benchtable.Target{}
}

// cycle attaches and detaches a pod and returns what each took.
func (c caller) cycle(ctx context.Context, p *pod) ([]float64, error) {
	add, err := c.add(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("ADD: %w", err)
	}
	del, err := c.del(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("DEL: %w", err)
	}
	return []float64{milliseconds(add), milliseconds(del)}, nil
}

// measurePods compares how many pods a second are attached when many come at
// once.
func measurePods(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	const many, secondaries = 16, 2
	for n := range many {
		if _, err := s.pod(n); err != nil {
			return nil, err
		}
	}
	pods := s.pods[:many]
	call := func(c caller) func() ([]float64, error) {
		return func() ([]float64, error) {
			start := time.Now()
			if err := atOnce(pods, func(p *pod) error { return second(c.add(ctx, p)) }); err != nil {
				return nil, fmt.Errorf("ADD of %d pods at once: %w", many, err)
			}
			took := time.Since(start)
			if err := atOnce(pods, func(p *pod) error { return second(c.del(ctx, p)) }); err != nil {
				return nil, fmt.Errorf("DEL of %d pods at once: %w", many, err)
			}
			return []float64{many / took.Seconds()}, nil
		}
	}
	p.Least = min(p.Least, 6)
	got, err := p.Pairs(ctx, call(s.oursFor(secondaries, nil)), call(s.floorFor(secondaries, nil)))
	if err != nil {
		return nil, err
	}
	r := benchtable.Row{Name: fmt.Sprintf("ADD of %d pods at once, %d secondary networks", many, secondaries), Unit: "pods/s", Target: benchtable.AtLeast(0.85)}
	r.Ours, r.Floor, r.Ratio = got.Value(0)
	return []benchtable.Row{r}, nil
}

func second(_ time.Duration, err error) error { return err }

// atOnce calls f for every pod at the same time, and returns the first error
// in the pods' order.
func atOnce(pods []*pod, f func(*pod) error) error {
	results := make([]chan error, len(pods))
	for i, p := range pods {
		results[i] = make(chan error, 1)
		go func() { results[i] <- f(p) }()
	}
	var first error
	for _, result := range results {
		if err := <-result; first == nil {
			first = err
		}
	}
	return first
}
