// Command bench measures what multiplexer costs on this machine. `make bench`
// runs it; it needs root.
//
// Every figure is a ratio of two sides that are measured in turn in one run:
// first the one, then the other, and the next time the other way around, so
// that a noisy machine is as noisy for both. The ratio of each such pair is
// one sample; the table shows the median and the quartiles of the samples.
//
// Both sides are calls of libcni, as a runtime makes them, in a namespace
// that plays the node. One side has multiplexer's configuration; the other,
// the floor, has the very networks that multiplexer is told to attach, one
// after the other, and nothing around them. So a ratio of 1 would be a
// multiplexer that costs nothing: no process, no journal, no look-up.
//
// The node's agent runs as a process with the rights that deploy/ grants, at a
// real API server with a thousand definitions and a hundred pods. The floor of
// ADD and DEL through it is multiplexer without an agent, with the same
// networks as files. What the agent holds, and how many plans it answers, has
// no floor; what it may not lose is compared before and after many pods, with
// the agent inside this process.
//
// A figure that misses its target says so; it is no error.
package main
