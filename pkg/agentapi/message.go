package agentapi

import (
	"net/netip"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Protocol is the version of the messages. Both sides name theirs; who is
// older is told to be upgraded.
const Protocol = 1

// maxMessage bounds a message, in bytes: the definitions of as many networks
// as a pod can have.
const maxMessage = 64 * (network.MaxDefinition + 4096)

// Request is what the plugin asks.
type Request struct {
	Protocol int           `json:"protocol"`
	Budget   time.Duration `json:"budget"` // nanoseconds that the plugin waits
	Pod      Pod           `json:"pod"`
	// Networks that the configuration names, besides those of the pod's
	// annotations.
	Networks []Reference `json:"networks,omitempty"`
}

// Pod is the pod that an ADD is about.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Annotations as the runtime delivered them; nil asks the agent for them.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Reference names a definition.
type Reference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Reply is what the agent knows, or why it does not.
type Reply struct {
	Protocol int    `json:"protocol"`
	Error    *Error `json:"error,omitempty"`
	Known    *Known `json:"known,omitempty"`
}

// Error keeps its kind on the way, and so its CNI error code.
type Error struct {
	Kind network.Kind `json:"kind"`
	Text string       `json:"text"`
}

// Known is all that a plan needs and the node does not have.
type Known struct {
	// Annotations of the pod, when the request had none.
	Annotations map[string]string `json:"annotations,omitempty"`
	// NamespaceNetworks are the networks of the pod's namespace, for pods
	// without an annotation of their own.
	NamespaceNetworks string         `json:"namespaceNetworks,omitempty"`
	Definitions       []Definition   `json:"definitions,omitempty"`
	Ranges            []netip.Prefix `json:"ranges,omitempty"` // of pods, Services and nodes
}

// Definition is a NetworkAttachmentDefinition. One that does not exist is
// not in the list.
type Definition struct {
	Reference
	Config       string `json:"config,omitempty"`       // spec.config, as its author wrote it
	ResourceName string `json:"resourceName,omitempty"` // its device is of this resource
}
