// Package deviceplugin offers the node's functions to kubelet as resources, as
// the configuration selects them, and keeps what kubelet knows true: it looks
// again whenever the kernel, a pod's claim or the configuration says that
// something changed, and every few minutes without that.
//
// It changes nothing on a device. What it lists it writes down first, so that
// a pick by `master` passes it over (sriov.Claims.Offer).
package deviceplugin
