package k8sclient

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Reader asks the API server one question at a time, for a tool that looks
// once. It writes nothing, watches nothing, and keeps nothing.
type Reader struct{ apis *apis }

// NewReader prepares a reader; nothing is asked yet.
func NewReader(config *rest.Config) (*Reader, error) {
	a, err := connect(config)
	if err != nil {
		return nil, fmt.Errorf("make Kubernetes client: %w", err)
	}
	return &Reader{apis: a}, nil
}

// Close ends the connections.
func (r *Reader) Close() { r.apis.close() }

// Right is something that whoever asks may do, or not.
type Right struct {
	Group, Resource, Subresource, Verb string
}

// String names the right as RBAC's rules do.
func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Group != "" {
		s += " (" + r.Group + ")"
	}
	return s
}

// May asks whether we have a right in all namespaces.
func (r *Reader) May(ctx context.Context, right Right) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]string{
			"group": right.Group, "resource": right.Resource, "subresource": right.Subresource, "verb": right.Verb,
		}},
	})
	if err != nil {
		return false, err
	}
	raw, err := r.apis.core.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Body(body).Do(ctx).Raw()
	if err != nil {
		return false, network.Again.Errorf("ask the API server for the right to %s: %w", right, explained(err))
	}
	var review struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	if err = json.Unmarshal(raw, &review); err != nil {
		return false, network.Malformed.Errorf("ask the API server for the right to %s: %w", right, err)
	}
	return review.Status.Allowed, nil
}

// ErrNoKind says that the cluster has no NetworkAttachmentDefinitions at all.
const ErrNoKind = noKind("the cluster does not know the kind NetworkAttachmentDefinition")

type noKind string

func (e noKind) Error() string { return string(e) }

// Definitions returns all definitions of the cluster; ErrNoKind where it does
// not have the kind.
func (r *Reader) Definitions(ctx context.Context) ([]Definition, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	list, err := r.apis.definitions.NetworkAttachmentDefinitions(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, ErrNoKind
	case err != nil:
		return nil, network.Again.Errorf("list NetworkAttachmentDefinitions: %w", explained(err))
	}
	var out []Definition
	for i := range list.Items {
		out = append(out, *definition(&list.Items[i]))
	}
	return out, nil
}

// SeenPod is a pod as whoever asks about it needs it.
type SeenPod struct {
	UID    string
	Node   string // "" = it is not scheduled
	Phase  string
	Host   bool // it uses the node's own network
	Static bool // a mirror: what the runtime calls its UID is another
	// Annotations that are about networks, network-status included.
	Annotations map[string]string
}

// Pod returns a pod of any node; ErrGone if there is none of the name.
func (r *Reader) Pod(ctx context.Context, namespace, name string) (*SeenPod, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	pod := &corev1.Pod{}
	err := r.apis.core.Get().Namespace(namespace).Resource(resourcePods).Name(name).Do(ctx).Into(pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, ErrGone)
	case err != nil:
		return nil, network.Again.Errorf("pod %s/%s: %w", namespace, name, explained(err))
	}
	seen := &SeenPod{
		UID: string(pod.UID), Node: pod.Spec.NodeName, Phase: string(pod.Status.Phase), Host: pod.Spec.HostNetwork, Annotations: map[string]string{},
		Static: pod.Annotations[configMirror] != "",
	}
	for _, key := range []string{network.NetworksAnnotation, network.DefaultNetworkAnnotation, network.StatusAnnotation} {
		if value, has := pod.Annotations[key]; has {
			seen.Annotations[key] = value
		}
	}
	return seen, nil
}

// SeenEvent is one event about a pod.
type SeenEvent struct {
	UID     string    `json:"uid,omitempty"` // of the pod that it is about
	Time    time.Time `json:"time"`
	Warning bool      `json:"warning"`
	Reason  string    `json:"reason"`
	Text    string    `json:"text"`
	Count   int       `json:"count"`
	From    string    `json:"from"`
}

// Events returns the events about pods of a name, the last one last: those of
// earlier ones too.
func (r *Reader) Events(ctx context.Context, namespace, name string) ([]SeenEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	list := &corev1.EventList{}
	options := metav1.ListOptions{FieldSelector: fields.Set{"involvedObject.kind": "Pod", "involvedObject.name": name}.AsSelector().String()}
	err := r.apis.core.Get().Namespace(namespace).Resource(resourceEvents).VersionedParams(&options, r.apis.params).Do(ctx).Into(list)
	switch {
	case apierrors.IsForbidden(err):
		return nil, network.Again.Errorf("events of pod %s/%s: these credentials may not list them: see kubectl -n %s describe pod %s, or apply deploy/rbac.yaml of this version", namespace, name, namespace, name)
	case err != nil:
		return nil, network.Again.Errorf("events of pod %s/%s: %w", namespace, name, explained(err))
	}
	var out []SeenEvent
	for i := range list.Items {
		out = append(out, seenEvent(&list.Items[i]))
	}
	sortByTime(out)
	return out, nil
}
