// Package journal remembers what was done for each container, so that it can
// be undone at any point: by ADD itself, DEL, GC, a second ADD, or later.
//
// One append-only file per container, one line per event, each with a
// checksum; a torn last line is cut off. The file is also the container's
// lock. docs/journal.md has the states and transitions.
package journal
