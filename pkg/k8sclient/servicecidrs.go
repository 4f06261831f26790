package k8sclient

import (
	"context"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// How long to wait before the API server is asked again for ServiceCIDRs.
const (
	// upgradeTime is for one that is too old to have them.
	upgradeTime = 10 * time.Minute
	// rightTime is for one that does not let us: it may have just started, and
	// not know its roles yet.
	rightTime = time.Minute
	// outageTime is for one that does not answer.
	outageTime = 5 * time.Second
)

func (c *Client) cidrSource() source {
	return source{
		name:   resourceServiceCIDRs,
		object: &networkingv1.ServiceCIDR{},
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return c.listServiceCIDRs(ctx, options)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return c.apis.networking.Get().Resource(resourceServiceCIDRs).VersionedParams(&options, c.apis.params).Watch(ctx)
		},
		trim: trimServiceCIDR,
		on:   func(any, any) { c.setServiceCIDRs() },
	}
}

func (c *Client) listServiceCIDRs(ctx context.Context, options metav1.ListOptions) (*networkingv1.ServiceCIDRList, error) {
	list := &networkingv1.ServiceCIDRList{}
	err := c.apis.networking.Get().Resource(resourceServiceCIDRs).VersionedParams(&options, c.apis.params).Do(ctx).Into(list)
	return list, err
}

func trimServiceCIDR(object any) (any, error) {
	full, ok := object.(*networkingv1.ServiceCIDR)
	if !ok {
		return object, nil
	}
	return &networkingv1.ServiceCIDR{ObjectMeta: trimMeta(&full.ObjectMeta), Spec: full.Spec}, nil
}

// runServiceCIDRs watches them as soon as the API server has them: before
// Kubernetes 1.33 it has not, and then we do without.
func (c *Client) runServiceCIDRs(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := c.probeServiceCIDRs(ctx)
		if err == nil {
			c.cidrs.RunWithContext(ctx)
			return
		}
		pause := outageTime
		switch {
		case apierrors.IsNotFound(err):
			pause = upgradeTime
		case apierrors.IsForbidden(err):
			pause = rightTime
		default:
			c.weather.saw(resourceServiceCIDRs, began, err)
		}
		if pause != outageTime && !c.withoutCIDRs.Swap(true) {
			c.tellWithout(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// tellWithout tells once that the ranges of Services do not come by themselves.
func (c *Client) tellWithout(err error) {
	if apierrors.IsForbidden(err) {
		c.opts.Log.Warn("ServiceCIDRs are refused: "+advice(err)+", or configure the ranges of Services", "error", err)
		return
	}
	c.opts.Log.Info("the API server has no ServiceCIDRs (Kubernetes has them since 1.33): the ranges of Services have to be configured", "error", err)
}

func (c *Client) probeServiceCIDRs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err := c.listServiceCIDRs(ctx, metav1.ListOptions{Limit: 1})
	return err
}
