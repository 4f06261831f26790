package k8sclient

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Resources as RBAC calls them.
const (
	resourceDefinitions  = "network-attachment-definitions"
	resourcePods         = "pods"
	resourceNamespaces   = "namespaces"
	resourceNodes        = "nodes"
	resourceServiceCIDRs = "servicecidrs"
	resourceEvents       = "events"
)

// askTime is how long a request may take that nobody waits for.
const askTime = 30 * time.Second

// source is where an informer gets its objects from. The informers that
// client-go and the NAD client generate do the same without a context, and so
// hang with an API server that does.
type source struct {
	name   string
	fields string // a field selector
	object runtime.Object
	list   func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch  func(context.Context, metav1.ListOptions) (watch.Interface, error)
	// trim leaves of an object what we need. It gets objects twice.
	trim func(any) (any, error)
	// on hears of each change; before or after is nil. Both are trimmed.
	on func(before, after any)
}

// informer caches a source's objects.
type informer struct {
	cache.SharedIndexInformer
	// heard is synced when the source's on has heard of all first objects.
	heard cache.ResourceEventHandlerRegistration
}

// informer makes one that tells the weather of all that it asks.
func (w *weather) informer(s source) (*informer, error) {
	shared := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			began := time.Now()
			options.FieldSelector = s.fields
			list, err := s.list(ctx, options)
			w.saw(s.name, began, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			began := time.Now()
			options.FieldSelector = s.fields
			stream, err := s.watch(ctx, options)
			w.saw(s.name, began, err)
			return stream, err
		},
	}, s.object, 0, cache.Indexers{})
	if err := shared.SetTransform(s.trim); err != nil {
		return nil, err
	}
	// The weather knows already.
	if err := shared.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
		return nil, err
	}
	heard, err := shared.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(after any) { s.on(nil, after) },
		UpdateFunc: s.on,
		DeleteFunc: func(before any) {
			if missed, ok := before.(cache.DeletedFinalStateUnknown); ok {
				before = missed.Obj
			}
			s.on(before, nil)
		},
	})
	if err != nil {
		return nil, err
	}
	return &informer{SharedIndexInformer: shared, heard: heard}, nil
}

// cached returns an object of an informer's cache, or nil.
func cached[T any](from *informer, namespace, name string) *T {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	object, _, err := from.GetStore().GetByKey(key)
	if err != nil {
		return nil
	}
	found, _ := object.(*T)
	return found
}
