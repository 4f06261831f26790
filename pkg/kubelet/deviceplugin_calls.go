package kubelet

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// calls counts the calls of a server that are under way, but for lists. As a
// handler of statistics it hears of an end when the answer is on its way,
// before anything that is sent later.
type calls struct {
	mu   sync.Mutex
	open int
	none chan struct{} // closed when open falls to 0; nil when nobody waits
}

type countedKey struct{}

// TagRPC marks the calls that count.
func (c *calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, countedKey{}, info.FullMethodName != deviceplugin.DevicePlugin_ListAndWatch_FullMethodName)
}

// HandleRPC counts.
func (c *calls) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if counted, _ := ctx.Value(countedKey{}).(bool); !counted {
		return
	}
	switch event.(type) {
	case *stats.Begin:
		c.add(1)
	case *stats.End:
		c.add(-1)
	}
}

// TagConn marks nothing.
func (c *calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (c *calls) HandleConn(context.Context, stats.ConnStats) {}

func (c *calls) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	if c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// wait waits until no call is under way, for d at most.
func (c *calls) wait(d time.Duration) {
	c.mu.Lock()
	if c.open == 0 {
		c.mu.Unlock()
		return
	}
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	select {
	case <-none:
	case <-time.After(d):
	}
}
