// Package explain says what one pod asked for, what it got, from where, and
// what failed: from the journals of the node, and, as far as they answer, from
// the API server and the agent. It changes nothing.
package explain
