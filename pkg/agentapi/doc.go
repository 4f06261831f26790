// Package agentapi is the wire between the plugin and the node's agent: one
// unix socket, for each call one request and one reply, both JSON. The agent
// knows what Kubernetes knows; what is done about it, the plugin does.
package agentapi
