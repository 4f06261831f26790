// Package agenttest runs a node for tests: a real kube-apiserver, the agent as
// a process of its own with the rights that deploy/ grants, a kubelet that
// speaks the real pod-resources gRPC, and the plugin as the runtime calls it.
package agenttest
