package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	run := outside
	if guest.Inside() {
		run = inside
	}
	status, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sriovbench:", err)
		status = 1
	}
	os.Exit(status)
}

// options are the same outside and inside.
type options struct {
	only  string
	quick bool
}

func parse(args []string) (o options, err error) {
	var names []string
	for _, f := range figures() {
		names = append(names, f.name)
	}
	flags := flag.NewFlagSet("sriovbench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "take a few samples only: whether it works, not how fast it is")
	flags.StringVar(&o.only, "only", "", "measure one figure: "+strings.Join(names, ", "))
	if err = flags.Parse(args); err == nil && o.only != "" && !slices.Contains(names, o.only) {
		err = fmt.Errorf("-only %q: want one of %s", o.only, strings.Join(names, ", "))
	}
	return o, err
}

// figure is one thing to measure. Its name is what -only takes.
type figure struct {
	name    string
	takes   time.Duration
	measure func(context.Context, *machine, benchtable.Pace) ([]benchtable.Row, error)
}

func figures() []figure {
	return []figure{
		{"plain", 30 * time.Second, measurePlugin("", nil)},
		{"knobs", 30 * time.Second, measurePlugin(", with vlan, spoofchk and trust", settings{"vlan": 100, "spoofchk": "off", "trust": "on"})},
		{"whole", 50 * time.Second, measureWhole},
	}
}

// quickly is the part of a figure's time that -quick gives it.
const quickly = 20

// inside measures, in the guest.
func inside(ctx context.Context, args []string) (status int, err error) {
	o, err := parse(args)
	if err != nil {
		return 0, err
	}
	// As in multiplexer's own process, for both sides.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	m, err := newMachine()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if o.quick {
		fmt.Println("-quick: too few samples to judge by.")
	}
	var rows []benchtable.Row
	for _, f := range figures() {
		if o.only != "" && o.only != f.name {
			continue
		}
		pace := benchtable.Pace{Takes: f.takes, Least: 10}
		if o.quick {
			pace = benchtable.Pace{Takes: f.takes / quickly, Least: 2}
		}
		fmt.Fprintf(os.Stderr, "measuring %s, about %s\n", f.name, pace.Takes.Round(time.Second/10))
		more, measureErr := f.measure(ctx, m, pace)
		if measureErr != nil {
			return 0, fmt.Errorf("measure %s: %w", f.name, measureErr)
		}
		rows = append(rows, more...)
	}
	return 0, benchtable.Print(os.Stdout, rows,
		"The machine and its cards are emulated, and state is on tmpfs. The floor of the plugin sriov is the bare netlink calls and",
		"the same runs of host-local, in one process; nothing is announced. The floor of multiplexer with sriov as an executable",
		"(\"embedded\": []) is multiplexer with sriov in its process; the pod has lo and the VF.")
}
