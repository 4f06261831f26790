// Package e2e tests what `kubectl apply` of deploy/ gives a cluster: two nodes
// with a real kubelet, containerd, runc and kube-proxy, flannel as the cluster
// network, both families, and multiplexer by its manifests and image alone.
package e2e
