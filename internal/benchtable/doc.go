// Package benchtable measures two sides in turn, and prints a table of the
// figures with their targets: what the benches of this repository share.
package benchtable
