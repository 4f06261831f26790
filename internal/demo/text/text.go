// Package text lays out what the demos print.
package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// SortedNames are the keys of a map in order.
func SortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Table writes rows in aligned columns, indented. A cell may have several
// lines.
func Table(out io.Writer, rows ...[]string) error {
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for _, line := range linesOf(row) {
			if _, err := fmt.Fprintln(table, "  "+strings.Join(line, "\t")); err != nil {
				return err
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// linesOf makes as many rows of a row as its highest cell has lines.
func linesOf(row []string) [][]string {
	var lines [][]string
	for column, cell := range row {
		for i, part := range strings.Split(cell, "\n") {
			if i == len(lines) {
				lines = append(lines, make([]string, len(row)))
			}
			lines[i][column] = part
		}
	}
	return lines
}

// Wrap breaks a list behind commas, so that its lines are no wider than need be.
func Wrap(list string, width int) string {
	var b strings.Builder
	column := 0
	for i, item := range strings.Split(list, ", ") {
		switch {
		case i == 0:
		case column+len(", ")+len(item)+len(",") > width:
			b.WriteString(",\n")
			column = 0
		default:
			b.WriteString(", ")
			column += len(", ")
		}
		b.WriteString(item)
		column += len(item)
	}
	return b.String()
}

// Indent shifts a text to the right.
func Indent(text, by string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return by + strings.Join(lines, "\n"+by)
}

// ResultJSON shows a CNI result with one element a line.
func ResultJSON(result *current.Result) (string, error) {
	raw, err := json.Marshal(result)
	if err != nil {
		return "", err
	}
	var parts struct {
		CNIVersion json.RawMessage   `json:"cniVersion"`
		Interfaces []json.RawMessage `json:"interfaces"`
		IPs        []json.RawMessage `json:"ips"`
		Routes     []json.RawMessage `json:"routes"`
		DNS        json.RawMessage   `json:"dns"`
	}
	if err = json.Unmarshal(raw, &parts); err != nil {
		return "", err
	}
	members := []string{fmt.Sprintf("%q: %s", "cniVersion", parts.CNIVersion)}
	for _, list := range []struct {
		name     string
		elements []json.RawMessage
	}{{"interfaces", parts.Interfaces}, {"ips", parts.IPs}, {"routes", parts.Routes}} {
		lines := make([]string, len(list.elements))
		for i, element := range list.elements {
			lines[i] = "    " + string(element)
		}
		members = append(members, fmt.Sprintf("%q: [\n%s\n  ]", list.name, strings.Join(lines, ",\n")))
	}
	if dns := string(parts.DNS); dns != "" && dns != "{}" {
		members = append(members, fmt.Sprintf("%q: %s", "dns", dns))
	}
	return "{\n  " + strings.Join(members, ",\n  ") + "\n}", nil
}

// Difference lists the lines that only one of two texts has.
func Difference(before, after string) []string {
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var lines []string
	for _, line := range SortedNames(count) {
		sign := "gone: "
		if count[line] > 0 {
			sign = "left: "
		}
		for range max(count[line], -count[line]) {
			lines = append(lines, sign+strings.TrimSpace(line))
		}
	}
	return lines
}
