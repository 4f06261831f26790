package kubelet

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// calls counts the connections of a server, and the calls that are under way,
// but for lists. As a handler of statistics it hears of a call's end when the
// answer is on its way, before anything that is sent later.
type calls struct{ answers, connections count }

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
		c.answers.add(1)
	case *stats.End:
		c.answers.add(-1)
	}
}

// TagConn marks nothing.
func (c *calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn counts.
func (c *calls) HandleConn(_ context.Context, event stats.ConnStats) {
	switch event.(type) {
	case *stats.ConnBegin:
		c.connections.add(1)
	case *stats.ConnEnd:
		c.connections.add(-1)
	}
}

// count is a number that can be waited for.
type count struct {
	mu   sync.Mutex
	open int
	none chan struct{} // closed when open falls to 0; nil when nobody waits
}

func (c *count) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	if c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// wait waits until there is none, for d at most.
func (c *count) wait(d time.Duration) {
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
