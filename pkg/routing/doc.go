// Package routing keeps a pod's traffic on the right NIC. Decide is pure: what
// the kernel holds, what the networks returned and what the pod asked for
// become a Plan of rules, routes and sysctls. apply puts the difference into
// the kernel, and Compare reads the kernel back: for ADD, for CHECK, and for
// whoever wants to explain a pod. The rules R1 to R7 are in docs/routing.md;
// each is one step of Decide, in a file of its own.
package routing
