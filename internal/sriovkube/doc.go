// Package sriovkube judges the device plugin, the agent and the CNI plugin
// together, by what pods really see: kubelet and containerd run in two guests
// with real VFs (internal/guest), on one physical network, and the control
// plane on this machine. `make e2e-sriov` runs it.
package sriovkube
