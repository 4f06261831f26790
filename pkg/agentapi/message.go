package agentapi

import (
	"net/netip"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Protocol is the version of the messages. Both sides name theirs, under the
// key "protocol" in every version of them; who is older is told to be upgraded.
const Protocol = 1

// maxMessage bounds a message, in bytes: the definitions of as many networks
// as a pod can have.
const maxMessage = 64 * (network.MaxDefinition + 4096)

// What a plugin may ask for.
const (
	VerbPlan    = "plan"    // what is known of the pod's networks
	VerbPublish = "publish" // show on the pod what its journal says
	VerbFailed  = "failed"  // tell the pod's owner why ADD failed
)

// Request is what the plugin asks.
type Request struct {
	Protocol int           `json:"protocol"`
	Budget   time.Duration `json:"budget"` // nanoseconds that the plugin waits
	Verb     string        `json:"verb"`
	Pod      Pod           `json:"pod"`
	// Networks that the configuration names, besides those of the pod's
	// annotations (VerbPlan).
	Networks []Reference `json:"networks,omitempty"`
	// Home is the namespace of a network that the pod's default-network
	// annotation names without one (VerbPlan).
	Home string `json:"home,omitempty"`
	// NamespaceDefaults asks for the networks of the pod's namespace, if the
	// pod has no annotation of its own (VerbPlan).
	NamespaceDefaults bool `json:"namespaceDefaults,omitempty"`
	// Container whose journal is ready (VerbPublish).
	Container string `json:"container,omitempty"`
	// Failure of the ADD (VerbFailed).
	Failure *Failure `json:"failure,omitempty"`
}

// Failure is why an ADD failed.
type Failure struct {
	Reason string `json:"reason"` // an event's reason, in CamelCase
	Text   string `json:"text"`
}

// Pod is the pod that an ADD is about.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Annotations as the runtime delivered them; nil asks the agent for them.
	Annotations map[string]string `json:"annotations"`
}

// Reference names a definition.
type Reference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String names it in messages.
func (r Reference) String() string { return r.Namespace + "/" + r.Name }

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

// Known is all that a plan needs and the node does not have. The reply to the
// other verbs is empty.
type Known struct {
	// Annotations of the pod, when the request had none.
	Annotations map[string]string `json:"annotations,omitempty"`
	// NamespaceNetworks are the networks of the pod's namespace, for pods
	// without an annotation of their own.
	NamespaceNetworks string       `json:"namespaceNetworks,omitempty"`
	Definitions       []Definition `json:"definitions,omitempty"`
	// Devices that kubelet gave the pod, in the order of its containers; nil
	// when no network of the pod needs one.
	Devices []Device `json:"devices"`
	// Publish says whether the agent wants to hear of the pod's journal.
	Publish bool `json:"publish,omitempty"`
	Facts
}

// Facts are about the cluster, the same for every pod of the node.
type Facts struct {
	Ranges  []netip.Prefix `json:"ranges,omitempty"`  // of pods, Services and nodes
	Runtime string         `json:"runtime,omitempty"` // network.Containerd, network.CRIO or ""
}

// Definition is a NetworkAttachmentDefinition. One that does not exist is
// not in the list.
type Definition struct {
	Reference
	Config       string `json:"config,omitempty"`       // spec.config, as its author wrote it
	ResourceName string `json:"resourceName,omitempty"` // its device is of this resource
}

// Device is one device that kubelet gave to a container of the pod.
type Device struct {
	Container string `json:"container"`
	Resource  string `json:"resource"`
	ID        string `json:"id"`
}
