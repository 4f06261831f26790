// Package routing is about what the kernel holds in a pod's network
// namespace: which interface, address and route belongs to which attachment.
package routing
