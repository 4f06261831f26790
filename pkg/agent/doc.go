// Package agent is the node's agent: it knows what Kubernetes knows and
// answers the plugin's questions, shows on the pods what the plugin did, and
// names what it thinks is left over. It changes no namespace, and no journal.
package agent
