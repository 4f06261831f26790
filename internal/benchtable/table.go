package benchtable

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// Row is one line of the table.
type Row struct {
	Name        string
	Unit        string // of Ours and Floor
	Ours, Floor Spread
	Ratio       Spread
	Difference  *Spread // what the target is about, if there is one
	Target      Target
	Absolute    bool // the target is about Ours, not about Ratio
	Notes       []string
}

// Target is what a figure has to be. The zero value is none.
type Target struct {
	sign  string // "<=" or ">="
	value float64
}

// AtMost is the target of a figure that must not be more.
func AtMost(v float64) Target { return Target{"<=", v} }

// AtLeast is the target of a figure that must not be less.
func AtLeast(v float64) Target { return Target{">=", v} }

func (r Row) verdict() string {
	got := r.Ratio.median
	switch {
	case r.Absolute:
		got = r.Ours.median
	case r.Difference != nil:
		got = r.Difference.median
	}
	switch {
	case r.Target.sign == "":
		return ""
	case r.Target.sign == "<=" && got <= r.Target.value, r.Target.sign == ">=" && got >= r.Target.value:
		return "met"
	}
	return "MISSED"
}

// Print prints all rows, and below them what they mean: what is true of every
// bench, then the lines about this one.
func Print(out io.Writer, rows []Row, about ...string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tOURS (p10-p90)\tFLOOR (p10-p90)\tRATIO (p25-p75)\tTARGET\t\tPAIRS")
	var notes []string
	missed := 0
	for _, r := range rows {
		verdict := r.verdict()
		if verdict == "MISSED" {
			missed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Name, r.Ours.InUnit(r.Unit), r.Floor.InUnit(r.Unit), r.showRatio(), r.showTarget(), verdict, r.Ours.n)
		notes = append(notes, r.Notes...)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	fmt.Fprintf(out, "\nOurs and floor are medians; the ratio is the median of the pairs' ratios, of two calls made in turn.\n")
	for _, n := range append(about, notes...) {
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

// InUnit prints the median and the range from p10 to p90.
func (s Spread) InUnit(unit string) string {
	if s.n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %s (%.2f-%.2f)", s.median, unit, s.low, s.high)
}

func (r Row) showRatio() string {
	if d := r.Difference; d != nil {
		return fmt.Sprintf("%+.2f %s (%+.2f-%+.2f)", d.median, r.Unit, d.lower, d.upper)
	}
	if r.Ratio.n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f (%.3f-%.3f)", r.Ratio.median, r.Ratio.lower, r.Ratio.upper)
}

func (r Row) showTarget() string {
	switch {
	case r.Target.sign == "":
		return "-"
	case r.Absolute, r.Difference != nil:
		return fmt.Sprintf("%s %g %s", r.Target.sign, r.Target.value, r.Unit)
	}
	return fmt.Sprintf("%s %g", r.Target.sign, r.Target.value)
}
