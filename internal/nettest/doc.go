// Package nettest gives tests, demos and benchmarks real things to work on:
// network namespaces, a namespace that plays the host, CNI plugins run as
// processes, packets sent from one namespace to another, and one snapshot of
// everything that could be left behind.
//
// Nothing here is a mock. The core functions return errors, so that programs
// outside of tests can use them; the functions that take a [testing.TB] wrap
// them, fail the test, and clean up.
//
// All of it needs root.
package nettest
