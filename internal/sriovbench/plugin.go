package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// measurePlugin compares sriov.Plugin with the bare calls, both in this
// process, for a network with these settings.
func measurePlugin(what string, more settings) func(context.Context, *machine, benchtable.Pace) ([]benchtable.Row, error) {
	return func(ctx context.Context, m *machine, p benchtable.Pace) ([]benchtable.Row, error) {
		floor := bare{machine: m}
		if len(more) > 0 {
			k := asked(more)
			floor.knobs = &k
		}
		plugin := &sriov.Plugin{
			Sys: sys, Kernel: sriov.Linux{Sys: sys}, Foreign: "/var/lib/cni/sriov", BootIDPath: bootID, Stderr: os.Stderr, Now: time.Now,
		}
		got, err := p.Pairs(ctx,
			func() ([]float64, error) { return m.cycle(ctx, plugin, more) },
			func() ([]float64, error) { return m.cycle(ctx, floor, more) })
		if err != nil {
			return nil, err
		}
		rows := rowsOf(got, "of a VF"+what)
		rows[0].Target = benchtable.AtMost(1.3)
		return rows, nil
	}
}

// rowsOf are the rows of ADD and DEL together, and of each.
func rowsOf(got *benchtable.Samples, what string) []benchtable.Row {
	rows := make([]benchtable.Row, 3)
	for k, verb := range []string{"ADD and DEL", "ADD", "DEL"} {
		rows[k].Name, rows[k].Unit = verb+" "+what, "ms"
		rows[k].Ours, rows[k].Floor, rows[k].Ratio = got.Value(k)
	}
	return rows
}

// cycle is one ADD and DEL of the VF. Both sides are called as multiplexer
// calls what is embedded, with libcni around it; what is measured is the side
// alone.
func (m *machine) cycle(ctx context.Context, side network.Embedded, more settings) ([]float64, error) {
	raw, err := m.network("bench", more)
	if err != nil {
		return nil, err
	}
	list, err := network.ParseList("bench", "", raw)
	if err != nil {
		return nil, err
	}
	entry, err := m.journal(ctx, network.Attachment{
		List: *list, Reference: "bench", Source: "bench", IfName: ifname,
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "bench"}},
	})
	if err != nil {
		return nil, err
	}
	defer entry.Close()
	watch := &stopwatch{Embedded: side}
	runner := &delegate.Runner{
		Path: []string{m.in("plugins")}, CacheDir: m.in("cache"), StateDir: m.in("state"), Stderr: os.Stderr,
		Embedded: map[string]network.Embedded{"sriov": watch},
	}
	runtime.GC() // nothing is collected while it is measured
	a := &entry.Records[0].Attachment
	req := delegate.Request{ContainerID: entry.Header.Container, Netns: entry.Header.Netns, State: entry.State(0)}
	if _, err = runner.Add(ctx, a, req); err != nil {
		return nil, fmt.Errorf("ADD: %w", err)
	}
	add := watch.took
	if err = m.attached(more); err != nil {
		return nil, fmt.Errorf("ADD: %w", err)
	}
	if err = runner.Del(ctx, a, req); err != nil {
		return nil, fmt.Errorf("DEL: %w", err)
	}
	if err = m.home(); err != nil {
		return nil, fmt.Errorf("DEL: %w", err)
	}
	return verbs(add, watch.took), entry.Remove()
}

// verbs are the values of rowsOf, in milliseconds.
func verbs(add, del time.Duration) []float64 {
	const ms = float64(time.Millisecond)
	return []float64{float64(add+del) / ms, float64(add) / ms, float64(del) / ms}
}

// stopwatch says how long its plugin's last call took.
type stopwatch struct {
	network.Embedded
	took time.Duration
}

// Run implements network.Embedded.
func (s *stopwatch) Run(ctx context.Context, call network.Call) ([]byte, error) {
	start := time.Now()
	out, err := s.Embedded.Run(ctx, call)
	s.took = time.Since(start)
	return out, err
}

// journal begins one as multiplexer has it when it calls the plugin.
func (m *machine) journal(ctx context.Context, a network.Attachment) (*journal.Entry, error) {
	boot, err := podns.BootID(bootID)
	if err != nil {
		return nil, err
	}
	cookie, err := podns.Cookie(m.pod.Path())
	if err != nil {
		return nil, err
	}
	entry, err := (&journal.Store{Dir: m.in("state"), Now: time.Now}).Create(ctx, m.pod.Name())
	if err != nil {
		return nil, err
	}
	if err = entry.Begin(journal.Header{
		Container: m.pod.Name(), Network: "bench", IfName: ifname,
		Netns: m.pod.Path(), Cookie: cookie, Boot: boot, Pod: "default/bench",
	}); err != nil {
		return nil, err
	}
	if _, err = entry.Plan(a); err != nil {
		return nil, err
	}
	return entry, entry.Adding(0)
}
