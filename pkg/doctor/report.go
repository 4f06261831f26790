package doctor

import (
	"context"
	"fmt"
	"slices"
)

// State is how one thing is.
type State string

// The states. Only Fail makes a node one that does not work as it should.
const (
	OK   State = "ok"
	Warn State = "warn" // pods work; something will not, or not for long
	Fail State = "fail" // pods, or some of them, do not get their networks
	NA   State = "n/a"  // it does not apply here, or could not be looked at
)

// Finding is what a check found.
type Finding struct {
	State  State  `json:"state"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// Check is one thing that is looked at.
type Check struct {
	Name string
	Look func(ctx context.Context) []Finding
}

// Row is a finding and the check that it is of.
type Row struct {
	Check string `json:"check"`
	Finding
}

// Report is what all checks found, in their order.
type Report struct {
	Version string `json:"version"` // of this tool
	Rows    []Row  `json:"rows"`
}

// Failed reports whether something does not work as it should.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.State == Fail })
}

// TableHeader names the columns of Row.TableRow.
func TableHeader() []string { return []string{"CHECK", "STATE", "WHAT", "REMEDY"} }

// TableRow shows the row as one row.
func (r *Row) TableRow() []string {
	remedy := r.Remedy
	if remedy == "" {
		remedy = "-"
	}
	return []string{r.Check, string(r.State), r.What, remedy}
}

// run makes every check once.
func run(ctx context.Context, checks []Check) []Row {
	rows := []Row{}
	for _, c := range checks {
		for _, f := range c.Look(ctx) {
			rows = append(rows, Row{Check: c.Name, Finding: f})
		}
	}
	return rows
}

func ok(format string, args ...any) Finding {
	return Finding{State: OK, What: fmt.Sprintf(format, args...)}
}

func na(format string, args ...any) Finding {
	return Finding{State: NA, What: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) Finding {
	return Finding{State: Warn, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(remedy, format string, args ...any) Finding {
	return Finding{State: Fail, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

// orOK is what was found wrong, or that all is well.
func orOK(wrong []Finding, format string, args ...any) []Finding {
	if len(wrong) > 0 {
		return wrong
	}
	return []Finding{ok(format, args...)}
}
