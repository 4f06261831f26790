package k8sclient

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// component is our name in the cluster: of the writer of a field, of the
// source of an event.
const component = "multiplexer"

// PublishStatus shows a network-status on a pod, by one request. The pod has to
// come from Pod: its UID keeps the status off another pod of the same name.
func (c *Client) PublishStatus(ctx context.Context, pod *Pod, value string) error {
	if pod.UID == "" {
		return network.Invalid.Errorf("publish network-status of pod %s/%s: its UID is not known", pod.Namespace, pod.Name)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         pod.UID,
		"annotations": map[string]string{network.StatusAnnotation: value},
	}})
	if err != nil {
		return fmt.Errorf("encode network-status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err = c.apis.pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: component}, "status")
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		// Most likely the pod has another UID, which an API server says in
		// either way.
		if gone := c.stillThere(ctx, pod); gone != nil {
			return gone
		}
	}
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("publish network-status of pod %s/%s: %w", pod.Namespace, pod.Name, ErrGone)
	case apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err):
		// Annotations have a limit, which a later try meets again.
		return network.Invalid.Errorf("publish network-status of pod %s/%s, %d bytes: %w", pod.Namespace, pod.Name, len(value), err)
	default:
		return network.Again.Errorf("publish network-status of pod %s/%s: %w", pod.Namespace, pod.Name, explained(err))
	}
}

// stillThere asks the API server: the cache may be behind it.
func (c *Client) stillThere(ctx context.Context, pod *Pod) error {
	full, err := c.apis.pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(full.UID) != pod.UID {
		return fmt.Errorf("publish network-status of pod %s/%s with UID %q: %w", pod.Namespace, pod.Name, pod.UID, ErrGone)
	}
	if err != nil {
		return network.Again.Errorf("publish network-status of pod %s/%s: %w", pod.Namespace, pod.Name, explained(err))
	}
	return nil
}
