package kubelettest

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kubelet's limit, for all clients and methods together.
const (
	perSecond = 100
	burst     = 10
)

// bucket is a token bucket, full when it is new.
type bucket struct {
	used float64
	last time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.used = max(0, b.used-now.Sub(b.last).Seconds()*perSecond)
	b.last = now
	if b.used > burst-1 {
		return false
	}
	b.used++
	return true
}

func (k *Kubelet) limited(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	k.mu.Lock()
	ok := k.limit.take(time.Now())
	k.mu.Unlock()
	if !ok {
		return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
	}
	return handle(ctx, request)
}
