package k8sclient

import (
	"context"
	"fmt"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// resourceNameAnnotation names the resource that a definition's device is of.
const resourceNameAnnotation = "k8s.v1.cni.cncf.io/resourceName"

// Definition is what we need of a NetworkAttachmentDefinition.
type Definition struct {
	Namespace    string
	Name         string
	Config       string // spec.config, as its author wrote it
	ResourceName string
}

func (c *Client) definitionSource() source {
	definitions := c.apis.definitions.NetworkAttachmentDefinitions(metav1.NamespaceAll)
	return source{
		name:   resourceDefinitions,
		object: &nadv1.NetworkAttachmentDefinition{},
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return definitions.List(ctx, options)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return definitions.Watch(ctx, options)
		},
		trim: trimDefinition,
		on: func(before, after any) {
			was, _ := before.(*nadv1.NetworkAttachmentDefinition)
			is, _ := after.(*nadv1.NetworkAttachmentDefinition)
			if was == nil || is == nil || *definition(was) != *definition(is) {
				c.changed.give()
			}
		},
	}
}

func trimDefinition(object any) (any, error) {
	nad, ok := object.(*nadv1.NetworkAttachmentDefinition)
	if !ok {
		return object, nil
	}
	return &nadv1.NetworkAttachmentDefinition{
		ObjectMeta: trimMeta(&nad.ObjectMeta, resourceNameAnnotation),
		Spec:       nad.Spec,
	}, nil
}

// trimMeta keeps what a cache needs of an object, and some annotations.
func trimMeta(meta *metav1.ObjectMeta, annotations ...string) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{Namespace: meta.Namespace, Name: meta.Name, ResourceVersion: meta.ResourceVersion}
	for _, key := range annotations {
		value, has := meta.Annotations[key]
		if !has {
			continue
		}
		if kept.Annotations == nil {
			kept.Annotations = map[string]string{}
		}
		kept.Annotations[key] = value
	}
	return kept
}

func definition(nad *nadv1.NetworkAttachmentDefinition) *Definition {
	return &Definition{
		Namespace:    nad.Namespace,
		Name:         nad.Name,
		Config:       nad.Spec.Config,
		ResourceName: nad.Annotations[resourceNameAnnotation],
	}
}

// Definition returns a definition from the cache. One that is not there may
// have come together with its pod, a moment ago: the API server is asked, so
// ErrNoDefinition is certain.
func (c *Client) Definition(ctx context.Context, namespace, name string) (*Definition, error) {
	if nad := cached[nadv1.NetworkAttachmentDefinition](c.defs, namespace, name); nad != nil {
		return definition(nad), nil
	}
	nad, err := c.apis.definitions.NetworkAttachmentDefinitions(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		return definition(nad), nil
	case apierrors.IsNotFound(err) && !kindMissing(err):
		return nil, fmt.Errorf("definition %s/%s: %w", namespace, name, ErrNoDefinition)
	default:
		return nil, network.Again.Errorf("definition %s/%s is not in the cache, and the API server did not give it: %w", namespace, name, explained(err))
	}
}

// kindMissing says that not the object is unknown, but its kind.
func kindMissing(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
