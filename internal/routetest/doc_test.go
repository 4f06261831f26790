// Package routetest proves the routing rules R1 to R7 with packets: a pod in
// a network of namespaces, dual stack, made anew for each test.
//
//	             outside 203.0.113.10, 2001:db8:113::10
//	            /        |         \
//	        node      router1    router2
//	       /    \         \         \
//	backend   [cluster]  [red]     [blue]
//	              \        |        /
//	               eth0  net1   net2
//	                 \     |     /
//	                      pod
//
// The outside host has a way back to every address of the pod, by the path
// that the address belongs to, and by no other. Routers drop what comes from
// a segment without being of it (strict rp_filter; IPv6 has none, so nftables
// does it), and so does the node. The node translates the Service addresses
// 10.96.0.10 and fd00:96::10 to the backend, a pod of another node, and has
// addresses outside of every range, 198.51.100.1 and 2001:db8:51::1.
//
// A probe is a series of packets there and back. What is compared are the
// counters of every NIC of the pod: the packets went out and came in by the
// one NIC that the test names.
//
// The tests run for the cluster networks of shapes_test.go, in the guest for
// one of them and a sample of the others; proofs in
// mutation_test.go says which tests prove which rule.
package routetest
