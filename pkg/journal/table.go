package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// TableHeader names the columns of Contents.TableRow.
func TableHeader() []string {
	return []string{"CONTAINER", "POD", "INTERFACES", "STATE", "SINCE", "NETNS"}
}

// TableRow shows the journal as one row.
func (c *Contents) TableRow() []string {
	if !c.Usable() {
		return []string{orDash(c.Header.Container), "-", "-", c.State(), "-", "-"}
	}
	return []string{
		c.Header.Container, orDash(c.Header.Pod), orDash(strings.Join(c.Names(), ",")), c.State(),
		c.Opened.Format(time.RFC3339), c.Header.Netns,
	}
}

// State says in a few words how far the container has come.
func (c *Contents) State() string {
	switch {
	case !c.Usable():
		return "damaged"
	case c.Releasing != "" && c.Failures > 0:
		return fmt.Sprintf("release failed (%s), tries: %d", c.Releasing, c.Failures)
	case c.Releasing != "" && c.Busy:
		return "being released (" + c.Releasing + ")"
	case c.Releasing != "":
		return "release interrupted (" + c.Releasing + ")"
	case c.Detaching != "" && slices.ContainsFunc(c.Records, func(r Record) bool { return r.Network() }):
		return fmt.Sprintf("networks to be detached (%s), failed tries: %d", c.Detaching, c.Failures)
	case c.Detaching != "":
		return "networks detached (" + c.Detaching + ")"
	case c.Complete:
		return "attached"
	case c.Busy:
		return "being attached"
	}
	return "ADD interrupted"
}

// Phase is State in one of a few words.
func (c *Contents) Phase() string {
	switch {
	case !c.Usable():
		return "damaged"
	case c.Releasing != "" && c.Failures > 0:
		return "release-failed"
	case c.Releasing != "":
		return "releasing"
	case c.Complete:
		return "attached"
	}
	return "adding"
}

// RecordHeader names the columns of Record.TableRow.
func RecordHeader() []string {
	return []string{"INTERFACE", "NETWORK", "STEP", "SOURCE", "LAST ERROR"}
}

// TableRow shows the attachment as one row.
func (r *Record) TableRow() []string {
	if r.Hidden {
		return []string{"-", "- (its plan line is damaged)", string(r.Step), "-", orDash(strings.ReplaceAll(r.Error, "\n", "; "))}
	}
	return []string{r.IfName, r.Reference, string(r.Step), r.Source, orDash(strings.ReplaceAll(r.Error, "\n", "; "))}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
