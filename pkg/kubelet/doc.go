// Package kubelet is what kubelet recorded on this node: which devices it
// gave to which container of a pod.
//
// It is asked through its pod-resources socket. What that answers besides
// devices of device plugins is left out: CPUs, memory, and dynamic resources
// (DRA), whose devices have names of their drivers and no resource name that
// a network could ask for.
//
// The other way round, a [DevicePlugin] tells kubelet which devices there are,
// and answers when kubelet gives them to containers.
package kubelet
