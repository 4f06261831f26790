package k8sclient

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func (c *Client) namespaceSource() source {
	namespaces := c.apis.metadata.Resource(corev1.SchemeGroupVersion.WithResource(resourceNamespaces))
	return source{
		name:   resourceNamespaces,
		object: &metav1.PartialObjectMetadata{},
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return namespaces.List(ctx, options)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return namespaces.Watch(ctx, options)
		},
		trim: trimNamespace,
		on: func(before, after any) {
			if networksOf(before) != networksOf(after) {
				c.changed.give()
			}
		},
	}
}

func trimNamespace(object any) (any, error) {
	full, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: trimMeta(&full.ObjectMeta, network.NetworksAnnotation)}, nil
}

func networksOf(object any) string {
	namespace, _ := object.(*metav1.PartialObjectMetadata)
	if namespace == nil {
		return ""
	}
	return namespace.Annotations[network.NetworksAnnotation]
}

// NamespaceNetworks returns the networks that a namespace is annotated with. A
// namespace that is not known yet is an error of kind Again: it may have some.
func (c *Client) NamespaceNetworks(namespace string) (networks string, err error) {
	if c.namespaces == nil {
		return "", nil
	}
	known := cached[metav1.PartialObjectMetadata](c.namespaces, "", namespace)
	switch {
	case known != nil:
		return networksOf(known), nil
	case !c.namespaces.HasSynced():
		return "", network.Again.Errorf("networks of namespace %s: the namespaces are not known yet (%s)", namespace, c.weather.why(resourceNamespaces))
	default:
		return "", network.Again.Errorf("networks of namespace %s: the API server did not tell of this namespace yet", namespace)
	}
}

// NamespacesWithNetworks returns the names of the namespaces that are
// annotated, sorted.
func (c *Client) NamespacesWithNetworks() []string {
	if c.namespaces == nil {
		return nil
	}
	var names []string
	for _, object := range c.namespaces.GetStore().List() {
		if namespace, ok := object.(*metav1.PartialObjectMetadata); ok && networksOf(namespace) != "" {
			names = append(names, namespace.Name)
		}
	}
	slices.Sort(names)
	return names
}
