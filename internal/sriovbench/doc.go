// Command sriovbench measures what the embedded plugin sriov costs, on real
// VFs: it runs itself in the guest of internal/guest. `make bench` runs it.
//
// The first figures are of one process. The floor is the bare netlink calls
// that take a VF to a pod and back, with the settings that the network asks
// for, and the same runs of host-local. The other side is sriov.Plugin, called
// as multiplexer calls it: with sysfs, locks, claims, and its record in the
// container's journal. Both set the same, do not announce addresses, and are
// looked at after each call.
//
// The last figures are of multiplexer as a runtime calls it, with
// "embedded": [] and the same plugin as an executable of its own. Their floor
// is multiplexer with the plugin in its process: what is above it is what
// embedding saves.
//
// A figure that misses its target says so; it is no error.
package main
