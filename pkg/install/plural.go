package install

import "strconv"

// Plural is a count with its words: one's where it is 1, else many's.
func Plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return strconv.Itoa(n) + " " + many
}
