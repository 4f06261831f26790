package network

import (
	"context"
)

// Embedded is a plugin that runs in this process where an executable would
// be started. It gets the same bytes and arguments, may stand anywhere in a
// chain, and must not read the process's environment.
type Embedded interface {
	// Run carries out one CNI verb and returns what an executable would
	// print on standard output. A *types.Error keeps its code.
	Run(ctx context.Context, call Call) ([]byte, error)
}

// Call is one call of an embedded plugin: CNI's arguments as values.
type Call struct {
	Command     string // ADD, DEL, CHECK, GC or STATUS
	ContainerID string
	Netns       string // path; empty when the namespace is gone
	IfName      string
	Args        string // CNI_ARGS, as "K=V;K=V"
	Path        []string
	Stdin       []byte // the plugin's configuration
	StateDir    string // of the node's multiplexer: what belongs to no one attachment

	State State // the plugin's own record for this attachment
	Exec  Exec  // runs another plugin, IPAM above all
}

// State is a few bytes that an embedded plugin keeps with its attachment in
// the journal, written before an effect that only they can undo.
type State interface {
	Load() []byte
	Save(data []byte) error
}

// Exec runs a plugin by its type with explicit arguments, embedded or as an
// executable: what a plugin uses to call its IPAM.
type Exec func(ctx context.Context, pluginType string, call Call) ([]byte, error)

// Collector is an Embedded that holds things of the node for its attachments.
type Collector interface {
	Embedded
	// Collect takes back what it holds for namespaces that are gone, whatever
	// the network. GC calls it.
	Collect(ctx context.Context, stateDir string) error
}

// Heir is an Embedded that can undo what another program attached before it.
type Heir interface {
	Embedded
	// Left returns what that program left for a container, with the
	// configuration of each as it kept it.
	Left(containerID string) ([]Attachment, error)
}
