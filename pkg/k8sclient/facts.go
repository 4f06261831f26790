package k8sclient

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Facts are about our node and the cluster. Each list is sorted.
type Facts struct {
	PodCIDRs     []netip.Prefix // our node's slice
	ServiceCIDRs []netip.Prefix
	Addresses    []netip.Addr // our node's
	Runtime      string       // network.Containerd, network.CRIO or ""
}

// Facts returns what is known now.
func (c *Client) Facts() Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Facts{
		PodCIDRs:     slices.Clone(c.facts.PodCIDRs),
		ServiceCIDRs: slices.Clone(c.facts.ServiceCIDRs),
		Addresses:    slices.Clone(c.facts.Addresses),
		Runtime:      c.facts.Runtime,
	}
}

// setFacts changes facts. A node's status is written every few minutes without
// any news for us.
func (c *Client) setFacts(change func(*Facts)) {
	c.mu.Lock()
	facts := c.facts
	change(&facts)
	same := reflect.DeepEqual(facts, c.facts)
	c.facts = facts
	c.mu.Unlock()
	if !same {
		c.changed.give()
	}
}

func (c *Client) nodeSource() source {
	return source{
		name:   resourceNodes,
		fields: fields.OneTermEqualSelector("metadata.name", c.opts.Node).String(),
		object: &corev1.Node{},
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			nodes := &corev1.NodeList{}
			err := c.apis.core.Get().Resource(resourceNodes).VersionedParams(&options, c.apis.params).Do(ctx).Into(nodes)
			return nodes, err
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return c.apis.core.Get().Resource(resourceNodes).VersionedParams(&options, c.apis.params).Watch(ctx)
		},
		trim: trimNode,
		on: func(_, after any) {
			// The facts of a node that went away stay: its pods are still here.
			if node, ok := after.(*corev1.Node); ok {
				c.setFacts(node2facts(node))
			}
		},
	}
}

func trimNode(object any) (any, error) {
	full, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	node := &corev1.Node{ObjectMeta: trimMeta(&full.ObjectMeta)}
	node.Spec.PodCIDR, node.Spec.PodCIDRs = full.Spec.PodCIDR, full.Spec.PodCIDRs
	node.Status.Addresses = full.Status.Addresses
	node.Status.NodeInfo.ContainerRuntimeVersion = full.Status.NodeInfo.ContainerRuntimeVersion
	return node, nil
}

func node2facts(node *corev1.Node) func(*Facts) {
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 {
		cidrs = []string{node.Spec.PodCIDR}
	}
	var addresses []netip.Addr
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP && address.Type != corev1.NodeExternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(address.Address); err == nil {
			addresses = append(addresses, ip.Unmap())
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return func(facts *Facts) {
		facts.PodCIDRs = prefixes(cidrs)
		facts.Addresses = slices.Compact(addresses)
		facts.Runtime = runtimeOf(node.Status.NodeInfo.ContainerRuntimeVersion)
	}
}

// prefixes parses ranges. The API server has checked them; what it lets pass
// and we do not understand, such as the "" of a node without one, is left out.
func prefixes(cidrs []string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, cidr := range cidrs {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			parsed = append(parsed, prefix.Masked())
		}
	}
	slices.SortFunc(parsed, netip.Prefix.Compare)
	return slices.Compact(parsed)
}

// runtimeOf reads NAME://VERSION.
func runtimeOf(version string) string {
	name, _, _ := strings.Cut(version, "://")
	if name == network.Containerd || name == network.CRIO {
		return name
	}
	return ""
}

// setServiceCIDRs takes them from the cache.
func (c *Client) setServiceCIDRs() {
	var cidrs []string
	for _, object := range c.cidrs.GetStore().List() {
		if one, ok := object.(*networkingv1.ServiceCIDR); ok {
			cidrs = append(cidrs, one.Spec.CIDRs...)
		}
	}
	c.setFacts(func(facts *Facts) { facts.ServiceCIDRs = prefixes(cidrs) })
}
