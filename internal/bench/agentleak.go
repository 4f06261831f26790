package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/libcni"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/multiplexer-cni/multiplexer/internal/agenttest"
	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
)

// measureLeak compares what a process with the agent in it holds before and
// after many pods. It is this process: only from inside can garbage be
// collected before the heap is looked at. So what libcni and the bench
// themselves left would count as well.
func measureLeak(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	cycles := 1000
	if p.Least < 10 {
		cycles /= quickly
	}
	c, err := s.cheapCaller()
	if err != nil {
		return nil, err
	}
	stop, err := s.runAgent(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.leakOf(ctx, c, cycles)
	return rows, errors.Join(err, stop())
}

func (s *stand) leakOf(ctx context.Context, c caller, cycles int) ([]benchtable.Row, error) {
	if err := s.manyPods(ctx, c, max(cycles/5, 10)); err != nil { // fills caches and pools
		return nil, err
	}
	before, err := heldNow(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.manyPods(ctx, c, cycles); err != nil {
		return nil, err
	}
	after, err := heldNow(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.kube.showsStatus(s.kube.pods[0], "cheap"); err != nil {
		return nil, err
	}
	rows := []benchtable.Row{
		{Name: "heap in use", Unit: "MiB", Target: benchtable.AtMost(1)},
		{Name: "goroutines", Unit: "goroutines", Target: benchtable.AtMost(0)},
		{Name: "descriptors", Unit: "fds", Target: benchtable.AtMost(0)},
	}
	for i := range rows {
		r := &rows[i]
		r.Name += fmt.Sprintf(" after %d ADD and DEL with the agent", cycles)
		difference := benchtable.SpreadOf([]float64{after[i] - before[i]})
		r.Ours, r.Floor, r.Difference = benchtable.SpreadOf(after[i:i+1]), benchtable.SpreadOf(before[i:i+1]), &difference
	}
	return rows, nil
}

// heldNow returns the heap in use in MiB, the goroutines and the open
// descriptors. What is about to end is waited for: until two looks show the
// same, or for some seconds.
func heldNow(ctx context.Context) ([]float64, error) {
	var last []float64
	for deadline := time.Now().Add(15 * time.Second); ; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
		}
		runtime.GC()
		runtime.GC() // what the first one finalized
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return nil, fmt.Errorf("count descriptors: %w", err)
		}
		held := []float64{float64(memory.HeapInuse) / mib, float64(runtime.NumGoroutine()), float64(len(open))}
		if last != nil && slices.Equal(held[1:], last[1:]) || time.Now().After(deadline) {
			return held, nil
		}
		last = held
	}
}

// runAgent runs the agent in this process, with a socket of its own as ever,
// until stop is called.
func (s *stand) runAgent(ctx context.Context) (stop func() error, err error) {
	k, err := s.startKube()
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", k.kubeconfig)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := agent.New(agent.Options{
		StateDir: s.state(), Socket: s.socket(), NetnsDir: "/run/netns", BootIDPath: "/proc/sys/kernel/random/boot_id",
		// What it remembers of a pod ends with a look at the journals.
		Publish: agent.PublishMulti, Events: agent.EventsFailures, Sweep: time.Second, Log: log, Now: time.Now,
	}, k8sclient.Options{Config: config, Node: agenttest.Name, Namespaces: true, Log: log},
		&kubelet.Resources{Socket: filepath.Join(s.dir, "no-kubelet.sock"), Log: log})
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = func() error { end(); return <-ended }
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = a.Ready(); err == nil {
			return stop, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(err, stop())
		}
	}
}

// cheapCaller attaches to networks that make nothing and give addresses only:
// the agent cannot tell, and a thousand pods take half a minute.
func (s *stand) cheapCaller() (caller, error) {
	recorder, err := nettest.BuildRecorder()
	if err != nil {
		return caller{}, err
	}
	k, err := s.startKube()
	if err != nil {
		return caller{}, err
	}
	if err = os.MkdirAll(filepath.Join(s.dir, "recorder", "leases"), 0o755); err != nil {
		return caller{}, err
	}
	network := func(name string, subnet int) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"recorder","dir":%q,"subnet":"10.%d.0.0/16"}]}`, name, filepath.Join(s.dir, "recorder"), subnet)
	}
	if err = os.WriteFile(filepath.Join(s.dir, "cheap-cluster.conflist"), []byte(network("cheap-cluster", 100)), 0o644); err != nil {
		return caller{}, err
	}
	if err = k.define("cheap", network("cheap", 101)); err != nil {
		return caller{}, err
	}
	c, err := s.throughAgent("cheap-cluster", 1)
	if err != nil {
		return caller{}, err
	}
	c.asked = map[string]any{annotations: map[string]string{networksOfAPod: "cheap"}}
	c.cni = libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(s.bin), recorder}, filepath.Join(s.dir, "cache-cheap"), nil)
	return c, nil
}

// manyPods attaches and detaches that many pods, a few at a time. Each is a
// container of its own, of one of fifty pods.
func (s *stand) manyPods(ctx context.Context, c caller, cycles int) error {
	const workers, podsInAll = 4, 50
	for n := range podsInAll {
		if _, err := s.kube.pod(n); err != nil {
			return err
		}
	}
	var next atomic.Int64
	var working sync.WaitGroup
	failed := make([]error, workers)
	for w := range workers {
		working.Go(func() {
			for n := int(next.Add(1)) - 1; n < cycles && failed[w] == nil; n = int(next.Add(1)) - 1 {
				one := *s.kube.pods[n%podsInAll]
				one.container = fmt.Sprintf("%s-%d-%d", one.name, cycles, n)
				_, failed[w] = c.cycle(ctx, &one)
			}
		})
	}
	working.Wait()
	return errors.Join(failed...)
}
