package main

import (
	"bytes"
	"io"
	"strings"
)

// trimmed is table without the blanks at the ends of lines, which broken cells
// leave.
func trimmed(out io.Writer, rows [][]string) error {
	var text bytes.Buffer
	if err := table(&text, rows); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := io.WriteString(out, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// wrapped breaks cells that are wider than their column's width into further
// rows; a width of 0, or none, breaks nothing. A word that is too long, such
// as a path, stays whole.
func wrapped(rows [][]string, widths ...int) [][]string {
	var out [][]string
	for _, row := range rows {
		lines, most := make([][]string, len(row)), 1
		for i, cell := range row {
			width := 0
			if i < len(widths) {
				width = widths[i]
			}
			lines[i] = broken(cell, width)
			most = max(most, len(lines[i]))
		}
		for n := range most {
			part := make([]string, len(row))
			for i := range row {
				if n < len(lines[i]) {
					part[i] = lines[i][n]
				}
			}
			out = append(out, part)
		}
	}
	return out
}

// broken breaks a text at its blanks.
func broken(text string, width int) []string {
	words := strings.Fields(text)
	if width == 0 || len(words) == 0 {
		return []string{text}
	}
	lines := []string{words[0]}
	for _, word := range words[1:] {
		last := &lines[len(lines)-1]
		if len(*last)+1+len(word) <= width {
			*last += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
