// Package kubelet is what kubelet recorded on this node: which devices it
// gave to which container of a pod.
package kubelet
