// Package sriov is the embedded SR-IOV plugin: it gives a VF, or a whole PF,
// to a pod and brings it home again.
//
// What an ADD is about to change is recorded first, twice: in the
// attachment's own journal entry, which says what a DEL has to undo, and in
// the VF's claim below stateDir/vf, which says whose the VF is. Undoing
// brings a VF from whatever state to the recorded one, and is the same
// function for DEL, for GC, and for an ADD that finds a VF of an ended pod.
//
//	Conf      the configuration, checked before any effect
//	Sysfs     which PFs and VFs there are; shared with the inventory
//	Kernel    netlink and the two files of sysfs that are written
//	claims    whose a VF is, and its locks
//	job       one call: occupy, configure, move, release
//	Inventory PFs and VFs as table rows
package sriov
