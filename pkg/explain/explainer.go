package explain

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Cluster is the API server, as *k8sclient.Reader asks it.
type Cluster interface {
	Pod(ctx context.Context, namespace, name string) (*k8sclient.SeenPod, error)
	Events(ctx context.Context, namespace, name string) ([]k8sclient.SeenEvent, error)
}

// Explainer explains pods of one node.
type Explainer struct {
	Root   string // where this process sees the node's directories; "" = "/"
	Store  *journal.Store
	Config *network.Config // the plugin's
	Boot   string          // this boot's identity
	Node   string          // our own name in the cluster; "" = not known
	// Unseen says of a path of the node whether it cannot be seen from here,
	// in a container that it is not mounted into; nil = all can be.
	Unseen func(path string) bool

	// Cluster asks the API server; nil where nobody may. WithoutCluster says why.
	Cluster        Cluster
	WithoutCluster string
	// Ask asks the agent; nil where there is none. WithoutAgent says why.
	Ask          func(context.Context, agentapi.Request) (*agentapi.Known, error)
	WithoutAgent string
}

// hidden reports whether a path of the node cannot be seen from here.
func (e *Explainer) hidden(path string) bool { return e.Unseen != nil && e.Unseen(path) }

// inquiry is one question.
type inquiry struct {
	*Explainer
	*Explanation
	namespace, name string
	pod             *k8sclient.SeenPod // nil = not known at the API server
	gone            bool               // the API server has no such pod
	journals        []*journal.Contents
	annotations     map[string]string // nil = nobody told
}

// Explain says what is known of a pod. An error is about the node: what cannot
// be found out of the pod is part of the explanation.
func (e *Explainer) Explain(ctx context.Context, namespace, name string) (*Explanation, error) {
	if err := network.ValidateNamespace("namespace", namespace); err != nil {
		return nil, err
	}
	if err := network.ValidateObjectName("pod", name); err != nil {
		return nil, err
	}
	q := &inquiry{Explainer: e, namespace: namespace, name: name, Explanation: &Explanation{
		Pod: namespace + "/" + name, Asked: []Asked{}, Containers: []Container{},
	}}
	q.askCluster(ctx)
	if err := q.readJournals(); err != nil {
		return nil, err
	}
	q.asked()
	for _, c := range q.journals {
		q.Containers = append(q.Containers, q.container(c))
	}
	q.readMultus()
	if q.wantsPlan() {
		q.plan(ctx)
	}
	q.notes()
	return q.Explanation, nil
}

// askCluster takes over what the API server says.
func (q *inquiry) askCluster(ctx context.Context) {
	if q.Cluster == nil {
		q.NotAsked = append(q.NotAsked, q.WithoutCluster)
		return
	}
	pod, err := q.Cluster.Pod(ctx, q.namespace, q.name)
	switch {
	case errors.Is(err, k8sclient.ErrGone):
		q.gone = true
	case err != nil:
		q.NotAsked = append(q.NotAsked, err.Error())
		return
	default:
		q.pod = pod
		q.UID, q.Explanation.Node, q.Phase = pod.UID, pod.Node, pod.Phase
		q.Status = pod.Annotations[network.StatusAnnotation]
	}
	events, err := q.Cluster.Events(ctx, q.namespace, q.name)
	if err != nil {
		q.NotAsked = append(q.NotAsked, err.Error())
		return
	}
	q.takeEvents(events)
}

// readJournals finds the pod's containers. Those of an earlier pod of the same
// name are shown too: what is left of it may be in the way.
func (q *inquiry) readJournals() error {
	containers, err := q.Store.Containers()
	if err != nil {
		return err
	}
	damaged := 0
	for _, container := range containers {
		c, rerr := q.Store.Read(container)
		switch {
		case errors.Is(rerr, journal.ErrAbsent): // released since
		case rerr == nil && c.Busy && !c.Usable(): // just made, it says nothing yet
		case rerr != nil || !c.Usable():
			damaged++
		case c.Header.Pod == q.Pod:
			q.journals = append(q.journals, c)
		}
	}
	if damaged > 0 && len(q.journals) == 0 {
		q.note("see multiplexerd journal", "some journals of this node cannot be read: one may be this pod's")
	}
	slices.SortStableFunc(q.journals, func(a, b *journal.Contents) int { return a.Opened.Compare(b.Opened) })
	return nil
}

// asked are the annotations, as the API server has them now, else as the
// runtime delivered them at ADD.
func (q *inquiry) asked() {
	from := "the pod"
	if q.pod != nil {
		q.annotations = q.pod.Annotations
	}
	if q.pod == nil && len(q.journals) > 0 {
		last := q.journals[len(q.journals)-1]
		q.annotations, from = delivered(last), "the journal, as the runtime delivered it"
		if q.UID == "" {
			q.UID = last.Header.UID
		}
	}
	q.tellAsked(q.annotations, from)
}

func (q *inquiry) tellAsked(annotations map[string]string, from string) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if key == network.NetworksAnnotation || key == network.DefaultNetworkAnnotation {
			q.Asked = append(q.Asked, Asked{key, annotations[key], from})
		}
	}
}

// attached is the container that has what the pod asked for, or nil.
func (q *inquiry) attached() *Container {
	for i := range q.Containers {
		if c := &q.Containers[i]; c.whole && (c.Live || c.hidden) {
			return c
		}
	}
	return nil
}

// wantsPlan reports whether the pod has not got its networks, and may be one
// of this node.
func (q *inquiry) wantsPlan() bool {
	if q.attached() != nil || q.gone || q.pod != nil && (q.pod.Host || q.elsewhere()) {
		return false
	}
	return q.pod != nil || len(q.journals) > 0 || q.Ask != nil
}

// elsewhere reports whether the pod is another node's.
func (q *inquiry) elsewhere() bool {
	return q.pod != nil && q.pod.Node != "" && q.Explainer.Node != "" && q.pod.Node != q.Explainer.Node && len(q.journals) == 0
}
