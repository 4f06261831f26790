package resource

import (
	"slices"
	"strconv"
	"strings"
)

func quote(s string) string { return strconv.Quote(clip(s)) }

// plain is text of the file without quotes: what a terminal would obey, or show
// as another line, is escaped.
func plain(s string) string {
	quoted := strconv.QuoteToGraphic(clip(s))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Nearest returns the word that `word` is most likely a misspelling of, ""
// if there is none.
func Nearest(word string, known []string) string {
	best, least := "", max(1, min(2, len(word)/3))+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace to make one
// word of the other. Words of very different length are just far apart.
func distance(a, b string) int {
	if diff := len(a) - len(b); diff > 3 || diff < -3 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			change := before[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, before[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
