package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// row is one line of the table.
type row struct {
	name        string
	unit        string // of ours and floor
	ours, floor spread
	ratio       spread
	difference  *spread // what the target is about, if there is one
	target      target
	absolute    bool // the target is about ours, not about the ratio
	notes       []string
}

// target is what a figure has to be. The zero value is none.
type target struct {
	sign  string // "<=" or ">="
	value float64
}

func atMost(v float64) target  { return target{"<=", v} }
func atLeast(v float64) target { return target{">=", v} }

func (r row) verdict() string {
	got := r.ratio.median
	switch {
	case r.absolute:
		got = r.ours.median
	case r.difference != nil:
		got = r.difference.median
	}
	switch {
	case r.target.sign == "":
		return ""
	case r.target.sign == "<=" && got <= r.target.value, r.target.sign == ">=" && got >= r.target.value:
		return "met"
	}
	return "MISSED"
}

// printTable prints all rows, and below them what they mean.
func printTable(out io.Writer, s *stand, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tOURS (p10-p90)\tFLOOR (p10-p90)\tRATIO (p25-p75)\tTARGET\t\tPAIRS")
	var notes []string
	missed := 0
	for _, r := range rows {
		verdict := r.verdict()
		if verdict == "MISSED" {
			missed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.name, r.ours.inUnit(r.unit), r.floor.inUnit(r.unit), r.showRatio(), r.showTarget(), verdict, r.ours.n)
		notes = append(notes, r.notes...)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	fmt.Fprintf(out, "\nOurs and floor are medians; the ratio is the median of the pairs' ratios, of two calls made in turn.\n")
	fmt.Fprintf(out, "State is in %s (%s). ", s.dir, s.filesystem)
	fmt.Fprintln(out, "The floor is libcni calling the same networks without multiplexer; both leave their routes alone")
	fmt.Fprintln(out, "(routing.mode plain). For guard, the floor is multiplexer in plain mode; for ADD and DEL with an agent,")
	fmt.Fprintln(out, "it is multiplexer without one; for what is left after ADD and DEL, it is what there was before.")
	for _, n := range notes {
		fmt.Fprintln(out, n)
	}
	fmt.Fprintln(out, busy())
	if missed > 0 {
		fmt.Fprintf(out, "MISSED: %d of %d figures. On a busy machine, measure again before you believe it.\n", missed, len(rows))
	}
	return nil
}

// busy says how much the machine had to do besides: with more processes than
// CPUs a figure says little, however many samples it has.
func busy() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "How busy the machine was is not known: " + err.Error()
	}
	return fmt.Sprintf("Load averages at the end: %s; CPUs: %d. The bench alone makes 1 to 3.", strings.Join(strings.Fields(string(load))[:3], " "), runtime.NumCPU())
}

func (s spread) inUnit(unit string) string {
	if s.n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %s (%.2f-%.2f)", s.median, unit, s.low, s.high)
}

func (r row) showRatio() string {
	if d := r.difference; d != nil {
		return fmt.Sprintf("%+.2f %s (%+.2f-%+.2f)", d.median, r.unit, d.lower, d.upper)
	}
	if r.ratio.n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f (%.3f-%.3f)", r.ratio.median, r.ratio.lower, r.ratio.upper)
}

func (r row) showTarget() string {
	switch {
	case r.target.sign == "":
		return "-"
	case r.absolute, r.difference != nil:
		return fmt.Sprintf("%s %g %s", r.target.sign, r.target.value, r.unit)
	}
	return fmt.Sprintf("%s %g", r.target.sign, r.target.value)
}
