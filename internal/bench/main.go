package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

func main() {
	// Also when interrupted: the namespaces and files are ours to remove.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// figure is one thing to measure. Its name is what -only takes.
type figure struct {
	name    string
	takes   time.Duration // how long samples are taken; 0 for a number of them
	measure func(context.Context, *stand, benchtable.Pace) ([]benchtable.Row, error)
}

func figures() []figure {
	return []figure{
		{"start", 5 * time.Second, measureStart},
		{"networks-0", 10 * time.Second, measureNetworks(0)},
		{"networks-2", 15 * time.Second, measureNetworks(2)},
		{"networks-8", 25 * time.Second, measureNetworks(8)},
		{"routing", 25 * time.Second, measureRouting},
		{"pods", 25 * time.Second, measurePods},
		{"memory", 0, measureMemory},
		{"agent", 40 * time.Second, measureAgent},
		{"agent-memory", 0, measureAgentMemory},
		{"agent-requests", 5 * time.Second, measureRequests},
		{"agent-leak", 0, measureLeak},
		{"devices-discovery", 10 * time.Second, measureDiscovery},
		{"devices-change", 10 * time.Second, measureChange},
		{"devices-idle", time.Minute, measureIdle},
	}
}

// quickly is the part of a figure's time that -quick gives it.
const quickly = 20

func run(ctx context.Context, args []string) (err error) {
	var names []string
	for _, f := range figures() {
		names = append(names, f.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "take a few samples only: whether it works, not how fast it is")
	only := flags.String("only", "", "measure one figure: "+strings.Join(names, ", "))
	dir := flags.String("dir", "/var/lib", "measure with all state in a directory made there, on its filesystem")
	if err = flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *only != "" && !slices.Contains(names, *only) {
		return fmt.Errorf("-only %q: want one of %s", *only, strings.Join(names, ", "))
	}
	bin, err := nettest.BinaryPath()
	if err != nil {
		return err
	}
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return err
	}
	if *only == "" || strings.HasPrefix(*only, "agent") {
		if err = findKube(); err != nil {
			return err
		}
	}
	s, err := newStand(*dir, bin, plugins)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	if *quick {
		fmt.Println("-quick: too few samples to judge by.")
	}
	rows, err := measure(ctx, s, *only, *quick)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	return benchtable.Print(os.Stdout, rows,
		fmt.Sprintf("State is in %s (%s). The floor is libcni calling the same networks without multiplexer; both leave their routes alone", s.dir, s.filesystem),
		"(routing.mode plain). For guard, the floor is multiplexer in plain mode; for ADD and DEL with an agent,",
		"it is multiplexer without one; for what is left after ADD and DEL, it is what there was before.")
}

// measure takes the samples of one figure, or of all of them.
func measure(ctx context.Context, s *stand, only string, quick bool) ([]benchtable.Row, error) {
	var rows []benchtable.Row
	for _, f := range figures() {
		if only != "" && f.name != only {
			continue
		}
		p := benchtable.Pace{Takes: f.takes, Least: 10}
		if quick {
			p = benchtable.Pace{Takes: f.takes / quickly, Least: 2}
		}
		about := ""
		if p.Takes > 0 {
			about = fmt.Sprintf(", about %s", p.Takes.Round(time.Second/10))
		}
		fmt.Fprintf(os.Stderr, "measuring %s%s\n", f.name, about)
		more, err := f.measure(ctx, s, p)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", f.name, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}
