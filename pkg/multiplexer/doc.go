// Package multiplexer is the CNI verbs: ADD, DEL, CHECK, GC and STATUS.
//
// ADD reads top to bottom as data flows: configuration, plan, attach, merge,
// record. Whatever was attached is undone by one function, release, for
// ADD's own failure, DEL, GC, a second ADD and leftovers alike.
package multiplexer
