// Package k8sclient is what the agent knows of the cluster: definitions, the
// node's pods, namespaces, the node itself; and what it tells the cluster:
// network-status and events.
package k8sclient
