package explain

import (
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
)

// Explanation is all that is known of a pod. Its JSON is stable: keys are
// added, and keep their meaning.
type Explanation struct {
	Pod    string `json:"pod"` // namespace/name
	UID    string `json:"uid,omitempty"`
	Node   string `json:"node,omitempty"`  // by the API server
	Phase  string `json:"phase,omitempty"` // Kubernetes' word
	Status string `json:"networkStatus,omitempty"`

	Asked      []Asked     `json:"asked"`
	Containers []Container `json:"containers"`         // that have a journal here, the oldest first; then those that Multus attached
	Planned    *Planned    `json:"planned,omitempty"`  // what it would get now; nil where it has it
	Events     []Event     `json:"events,omitempty"`   // about its networks, the last one last
	Notes      []Note      `json:"notes,omitempty"`    // what to look at
	Missing    bool        `json:"missing,omitempty"`  // nobody here knows the pod
	NotAsked   []string    `json:"notAsked,omitempty"` // who could not be asked, and why
}

// Asked is one annotation that names networks.
type Asked struct {
	Annotation string `json:"annotation"`
	Value      string `json:"value"`
	From       string `json:"from"` // who told of it
}

// Container is a sandbox of the pod, as its journal has it.
type Container struct {
	ID       string    `json:"id"`
	UID      string    `json:"uid,omitempty"` // of the pod that it is of
	State    string    `json:"state"`
	Since    time.Time `json:"since,omitzero"` // missing where Multus attached it
	Netns    string    `json:"netns"`
	Live     bool      `json:"live"` // its namespace is there
	Networks []Network `json:"networks"`
	NICs     []NIC     `json:"nics,omitempty"`
	// Kernel says that NICs are as the kernel has them now; else as they were
	// set at ADD, because of Unread.
	Kernel   bool     `json:"kernel"`
	Unread   string   `json:"unread,omitempty"`
	Changed  string   `json:"changed,omitempty"` // what of the routing somebody changed since
	Warnings []string `json:"warnings,omitempty"`

	whole  bool // it has all that its pod asked for
	hidden bool // whether it is live cannot be seen from here
}

// Network is one network of a pod.
type Network struct {
	Interface string   `json:"interface"`
	Network   string   `json:"network"`          // as the pod's author knows it
	Source    string   `json:"source"`           // the file or object of its configuration
	By        string   `json:"by"`               // why the pod gets it
	Step      string   `json:"step,omitempty"`   // how far it is
	Plugins   []string `json:"plugins"`          // in their order
	Device    *Device  `json:"device,omitempty"` // nil = it has none
	Addresses []string `json:"addresses,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	Problem   string   `json:"problem,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
}

// Device is the device of a network, and by which rule it got that.
type Device struct {
	ID       string `json:"id"`
	Resource string `json:"resource,omitempty"`
	What     string `json:"what,omitempty"` // VF 3 of PF 0000:17:00.0
	Rule     string `json:"rule"`
}

// NIC is what one NIC carries.
type NIC struct {
	Name    string   `json:"name"`
	Table   int      `json:"table"`
	Carries []string `json:"carries"`
	Replies []string `json:"repliesOf"`
}

// Planned is what the pod would get if its ADD ran now.
type Planned struct {
	Networks []Network `json:"networks"`
	Phase    string    `json:"phase,omitempty"` // in which its ADD would fail
	Error    string    `json:"error,omitempty"` // why
	Remedy   string    `json:"remedy,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Event is an event about the pod that concerns its networks.
type Event struct {
	k8sclient.SeenEvent
	Phase  string `json:"phase"`
	Remedy string `json:"remedy,omitempty"`
}

// Note is something to know, and what to do.
type Note struct {
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

func (x *Explanation) note(remedy, what string) { x.Notes = append(x.Notes, Note{what, remedy}) }
