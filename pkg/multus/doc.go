// Package multus reads what Multus keeps of the containers that it attached,
// so that they can be detached after it is gone:
//
//	CNIDIR/CONTAINERID                          its delegates, a JSON list, written before its ADD attaches
//	CNIDIR/results/NETWORK-CONTAINERID-IFNAME   libcni's record of one ADD that succeeded
//
// The list says what was attempted and in which order, but not all of how: port
// mappings, bandwidth and the results are missing in it. libcni's record has
// the exact configuration and arguments, and the result. So the list decides
// what there is, and the records, where they can be read, what it is detached
// with. Why both: docs/adr/0019-pods-of-multus.md.
//
// The runtime's libcni has one record more, of the ADD that called Multus. It
// says nothing of the delegates, and goes with the others (OuterRecords).
package multus
