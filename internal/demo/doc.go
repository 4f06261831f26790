// Command demo shows the CNI plugin at work on this machine, without a
// cluster: `make demo`.
//
// It plays the container runtime. A network namespace plays the node, one each
// pod, and more stand at the far end of networks, for a Service, for a pod on
// another node and for the outside, so that packets prove which NIC carries
// what. The files of examples/ are used as they are,
// at the paths where a node has them; private.go says how that leaves the
// machine alone.
package main
