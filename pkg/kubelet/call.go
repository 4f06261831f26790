package kubelet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

type request func(podresources.PodResourcesListerClient) error

// retryPause is the time after which kubelet's rate limit, 100 requests a
// second of all clients together, lets the next one pass, and in which a
// kubelet that ends has ended.
const retryPause = 10 * time.Millisecond

// call makes a request. `refused` is kubelet's answer when it is none that
// was asked for; an error is of kind Again: there was no answer.
//
// When many pods start at once, kubelet's rate limit is soon reached (after
// a burst of 10). Those that it turns away try again one after the other,
// until ctx ends.
func (r *Resources) call(ctx context.Context, ask request) (refused *status.Status, err error) {
	refused, err = r.exchange(ctx, ask)
	if !limited(refused) {
		return refused, err
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
	}
	for limited(refused) {
		if !pause(ctx) {
			refused, err = nil, fmt.Errorf("kubelet at %s gave no answer in time", r.Socket)
			break
		}
		refused, err = r.exchange(ctx, ask)
	}
	if err != nil {
		return nil, network.Again.Errorf("%w; it turned requests away before: its limit is 100 a second for all its clients, find out who else asks that much", err)
	}
	return refused, nil
}

// pause reports whether there is time for another try.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(retryPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// limited tells kubelet's rate limit from an answer that is too large, which
// has the same code.
func limited(refused *status.Status) bool {
	return refused.Code() == codes.ResourceExhausted && strings.Contains(refused.Message(), "rate limit")
}

// exchange makes a request once. When the connection breaks meanwhile, it is
// made again: kubelet may just have been restarted.
func (r *Resources) exchange(ctx context.Context, ask request) (refused *status.Status, err error) {
	for try := range 3 {
		if try > 0 && !pause(ctx) {
			break
		}
		c, cerr := r.connect()
		if cerr != nil {
			return nil, cerr
		}
		before := r.dials.Load()
		answer := status.Convert(ask(podresources.NewPodResourcesListerClient(c)))
		switch code := answer.Code(); {
		case code == codes.OK:
			return nil, nil
		case ctx.Err() != nil || code == codes.DeadlineExceeded:
			return nil, network.Again.Errorf("kubelet at %s gave no answer in time: look whether kubelet hangs on this node", r.Socket)
		case code == codes.Unavailable:
			r.abandon(c)
			// An earlier dial that failed says nothing about now.
			if last := c.undialed.Load(); last != nil && last.number > before {
				return nil, r.unreachable(last.reason)
			}
			refused = answer
		case code == codes.Canceled: // closed or abandoned by another request
			refused = answer
		default:
			return answer, nil
		}
	}
	return nil, network.Again.Errorf("kubelet at %s ends the connection: %s: look into kubelet's log", r.Socket, refused.Message())
}
