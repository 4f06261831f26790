package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measureStart compares VERSION, which is little more than the start of a
// process, with the bridge plugin's.
func measureStart(ctx context.Context, s *stand, p pace) ([]row, error) {
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
	got, err := p.pairs(ctx, call(s.bin), call(filepath.Join(s.plugins, "bridge")))
	if err != nil {
		return nil, err
	}
	r := row{name: "start (VERSION; floor: the bridge plugin)", unit: "ms", target: atMost(1.6)}
	r.ours, r.floor, r.ratio = got.value(0)
	return []row{r}, nil
}

// measureNetworks compares ADD and DEL of one pod at a time.
func measureNetworks(secondaries int) func(context.Context, *stand, pace) ([]row, error) {
	return func(ctx context.Context, s *stand, p pace) ([]row, error) {
		pod, err := s.pod(0)
		if err != nil {
			return nil, err
		}
		call := func(c caller) func() ([]float64, error) {
			return func() ([]float64, error) { return c.cycle(ctx, pod) }
		}
		got, err := p.pairs(ctx, call(s.oursFor(secondaries, nil)), call(s.floorFor(secondaries, nil)))
		if err != nil {
			return nil, err
		}
		add := row{name: fmt.Sprintf("ADD, %d secondary networks", secondaries), unit: "ms", target: addTarget(secondaries)}
		add.ours, add.floor, add.ratio = got.value(0)
		del := row{name: fmt.Sprintf("DEL, %d secondary networks", secondaries), unit: "ms", target: atMost(1.1)}
		del.ours, del.floor, del.ratio = got.value(1)
		return []row{add, del}, nil
	}
}

// addTarget is none without secondaries: what is the same for every pod
// weighs most there, and the start of a process has a figure of its own.
func addTarget(secondaries int) target {
	switch secondaries {
	case 2:
		return atMost(1.2)
	case 8:
		return atMost(1.12)
	}
	return target{}
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
func measurePods(ctx context.Context, s *stand, p pace) ([]row, error) {
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
	p.least = min(p.least, 6)
	got, err := p.pairs(ctx, call(s.oursFor(secondaries, nil)), call(s.floorFor(secondaries, nil)))
	if err != nil {
		return nil, err
	}
	r := row{name: fmt.Sprintf("ADD of %d pods at once, %d secondary networks", many, secondaries), unit: "pods/s", target: atLeast(0.85)}
	r.ours, r.floor, r.ratio = got.value(0)
	return []row{r}, nil
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
