package killtest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table of docs/kill-matrix.md has the cells that are run, and says why
// the others are not.
func TestDocsHaveTheMatrix(t *testing.T) {
	page, err := os.ReadFile("../../docs/kill-matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| |")
	for _, c := range columns() {
		fmt.Fprintf(&want, " %s |", c)
	}
	want.WriteString("\n|" + strings.Repeat("---|", len(columns())+1) + "\n")
	for _, d := range disturbances() {
		fmt.Fprintf(&want, "| %s |", d.name)
		for _, c := range columns() {
			cell := "yes"
			if why := d.without(c); why != "" {
				cell = "n/a: " + why
			}
			fmt.Fprintf(&want, " %s |", cell)
		}
		want.WriteString("\n")
	}
	_, rest, _ := strings.Cut(string(page), "\n\n|")
	table, _, _ := strings.Cut("|"+rest, "\n\n")
	if diff := cmp.Diff(strings.TrimSpace(want.String()), table); diff != "" {
		t.Errorf("docs/kill-matrix.md (-suite +page):\n%s", diff)
	}
}
