package k8sclient

import (
	"context"
	"fmt"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// CachedDefinition is Definition, but asks nobody: for names that every pod's
// request holds, and that need not be those of definitions.
func (c *Client) CachedDefinition(_ context.Context, namespace, name string) (*Definition, error) {
	synced := c.defs.HasSynced() // asked first, so that it is true of what the cache says next
	if nad := cached[nadv1.NetworkAttachmentDefinition](c.defs, namespace, name); nad != nil {
		return definition(nad), nil
	}
	if !synced {
		return nil, network.Again.Errorf("definition %s/%s: the definitions of the cluster are not known yet", namespace, name)
	}
	return nil, fmt.Errorf("definition %s/%s: %w", namespace, name, ErrNoDefinition)
}

// Node reports that the cluster has no Node of our name, once it told of its
// nodes: a misspelt name would watch no pods.
func (c *Client) Node() error {
	if c.node.HasSynced() && cached[corev1.Node](c.node, "", c.opts.Node) == nil {
		return network.Invalid.Errorf("no Node %q in the cluster: correct --node-name, or wait until kubelet registers it", c.opts.Node)
	}
	return nil
}

// CachedPod returns a pod if the cache has it. An empty UID is every pod's.
func (c *Client) CachedPod(namespace, name, uid string) (*Pod, bool) {
	known := cached[metav1.PartialObjectMetadata](c.pods, namespace, name)
	if known == nil || !matches(known, uid) {
		return nil, false
	}
	return pod(known), true
}
