package k8sclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Annotations by which kubelet marks the mirror of a static pod.
const (
	configMirror = "kubernetes.io/config.mirror"
	configHash   = "kubernetes.io/config.hash"
)

// statusDigest is where a cached pod keeps the digest of its network-status.
// No annotation can have such a key.
const statusDigest = "digest of " + network.StatusAnnotation

// Pod is what we need of a pod.
type Pod struct {
	Namespace string
	Name      string
	// UID is the API server's: of a static pod, its mirror's.
	UID string
	// Annotations that are about networks.
	Annotations map[string]string
	// Status is the Digest of the network-status that it shows, "" for none.
	Status string
}

// Digest stands for a network-status in Pod.Status.
func Digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

func (a *apis) pods(namespace string) metadata.ResourceInterface {
	return a.metadata.Resource(corev1.SchemeGroupVersion.WithResource(resourcePods)).Namespace(namespace)
}

func (c *Client) podSource() source {
	pods := c.apis.pods(metav1.NamespaceAll)
	return source{
		name:   resourcePods,
		fields: fields.OneTermEqualSelector("spec.nodeName", c.opts.Node).String(),
		object: &metav1.PartialObjectMetadata{},
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return pods.List(ctx, options)
		},
		watch: pods.Watch,
		trim:  trimPod,
		on: func(before, after any) {
			was, _ := before.(*metav1.PartialObjectMetadata)
			is, _ := after.(*metav1.PartialObjectMetadata)
			// A watch that was cut shows a new pod of the same name as a change.
			if was != nil && (is == nil || was.UID != is.UID) {
				c.podGone.give()
			}
		},
	}
}

func trimPod(object any) (any, error) {
	full, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	kept := &metav1.PartialObjectMetadata{ObjectMeta: trimMeta(&full.ObjectMeta,
		network.NetworksAnnotation, network.DefaultNetworkAnnotation, configMirror, configHash, statusDigest)}
	kept.UID = full.UID
	if status, has := full.Annotations[network.StatusAnnotation]; has {
		if kept.Annotations == nil {
			kept.Annotations = map[string]string{}
		}
		kept.Annotations[statusDigest] = Digest(status)
	}
	return kept, nil
}

// matches says that CNI means this pod: the UID that it gets of a static pod is
// the hash of the pod's file, and its mirror has one of its own.
func matches(pod *metav1.PartialObjectMetadata, uid string) bool {
	return uid == "" || uid == string(pod.UID) || uid == pod.Annotations[configMirror] || uid == pod.Annotations[configHash]
}

// Pod returns a pod from the cache. When that does not have it, or has another
// one of the same name, the API server is asked, so ErrGone is certain. An
// empty UID is every pod's.
func (c *Client) Pod(ctx context.Context, namespace, name, uid string) (*Pod, error) {
	if known := cached[metav1.PartialObjectMetadata](c.pods, namespace, name); known != nil && matches(known, uid) {
		return pod(known), nil
	}
	full, err := c.apis.pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, ErrGone)
	case err != nil:
		return nil, network.Again.Errorf("pod %s/%s with UID %q is not in the cache, and the API server did not give it: %w", namespace, name, uid, explained(err))
	case !matches(full, uid):
		return nil, fmt.Errorf("pod %s/%s with UID %q: %w, another one with UID %q has its name", namespace, name, uid, ErrGone, full.UID)
	}
	return pod(full), nil
}

// DaemonSet asks the API server for the UID of the DaemonSet that a pod
// belongs to, "" if it belongs to none, and for when the pod was created.
func (c *Client) DaemonSet(ctx context.Context, namespace, name string) (uid string, created time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	full, err := c.apis.pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", time.Time{}, network.Again.Errorf("pod %s/%s: %w", namespace, name, explained(err))
	}
	if owner := metav1.GetControllerOf(full); owner != nil && owner.Kind == "DaemonSet" {
		uid = string(owner.UID)
	}
	return uid, full.CreationTimestamp.Time, nil
}

// pod takes what we need, whether the object is trimmed or not.
func pod(object *metav1.PartialObjectMetadata) *Pod {
	p := &Pod{
		Namespace:   object.Namespace,
		Name:        object.Name,
		UID:         string(object.UID),
		Annotations: map[string]string{},
		Status:      object.Annotations[statusDigest],
	}
	if status, has := object.Annotations[network.StatusAnnotation]; has {
		p.Status = Digest(status)
	}
	for _, key := range []string{network.NetworksAnnotation, network.DefaultNetworkAnnotation} {
		if value, has := object.Annotations[key]; has {
			p.Annotations[key] = value
		}
	}
	return p
}
