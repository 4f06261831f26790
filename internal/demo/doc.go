// Command demo shows the CNI plugin at work on this machine, without a
// cluster: `make demo`.
//
// It plays the container runtime. A network namespace plays the node, one the
// pod, and one more stands at the far end of each network, so that packets
// prove which NIC carries what. The files of examples/ are used as they are,
// at the paths where a node has them; private.go says how that leaves the
// machine alone.
package main
