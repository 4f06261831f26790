package k8sclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// What a caller decides on. Everything else that can fail is of kind Again.
var (
	// ErrGone: the pod does not exist any more, or its name is another pod's now.
	ErrGone = errors.New("the pod is gone")
	// ErrNoDefinition: there is no such NetworkAttachmentDefinition.
	ErrNoDefinition = errors.New("there is no such NetworkAttachmentDefinition")
)

// Options says which cluster, and what of it.
type Options struct {
	Config *rest.Config
	// Node is the name of our own node.
	Node string
	// Namespaces asks for the networks that namespaces are annotated with.
	Namespaces bool
	Log        *slog.Logger
	// Changed is called, some time after, when definitions, namespaces' networks
	// or the facts are others than before. One call may stand for many changes.
	Changed func()
	// PodGone is called in the same way when pods of the node went away.
	PodGone func()
}

// Client knows the cluster and tells it things. Its methods may be called from
// many goroutines, also before and after Run.
type Client struct {
	opts       Options
	apis       *apis
	weather    *weather
	events     *events
	namespaces *informer // nil when nobody asks for them
	defs       *informer
	pods       *informer
	node       *informer
	cidrs      *informer
	// withoutCIDRs is set when the API server has no ServiceCIDRs for us.
	withoutCIDRs atomic.Bool
	changed      signal
	podGone      signal

	mu    sync.Mutex
	facts Facts
}

// New prepares a client. Nothing is asked before Run.
func New(opts Options) (*Client, error) {
	if opts.Config == nil || opts.Node == "" || opts.Log == nil {
		return nil, errors.New("make Kubernetes client: it needs a Config, the node's name and a Log")
	}
	c := &Client{
		opts:    opts,
		weather: &weather{log: opts.Log, refused: map[string]*refused{}},
		changed: newSignal(opts.Changed),
		podGone: newSignal(opts.PodGone),
	}
	var err error
	if c.apis, err = connect(opts.Config); err != nil {
		return nil, fmt.Errorf("make Kubernetes client: %w", err)
	}
	c.events = newEvents(c.apis.core, c.weather, opts.Node)
	sources := []struct {
		source
		to **informer
	}{
		{c.definitionSource(), &c.defs},
		{c.podSource(), &c.pods},
		{c.nodeSource(), &c.node},
		{c.cidrSource(), &c.cidrs},
		{c.namespaceSource(), &c.namespaces},
	}
	for _, s := range sources {
		if s.name == resourceNamespaces && !opts.Namespaces {
			continue
		}
		if *s.to, err = c.weather.informer(s.source); err != nil {
			return nil, fmt.Errorf("watch %s: %w", s.name, err)
		}
	}
	return c, nil
}

// Run keeps what is known up to date and sends events until ctx ends. No
// goroutine and no connection is left then. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	// What the reflectors have to say is in the weather, once instead of at
	// every retry.
	ctx = klog.NewContext(ctx, klog.New(nil))
	var running sync.WaitGroup
	for _, one := range []*informer{c.defs, c.pods, c.node, c.namespaces} {
		if one != nil {
			running.Go(func() { one.RunWithContext(ctx) })
		}
	}
	running.Go(func() { c.runServiceCIDRs(ctx) })
	running.Go(func() { c.events.run(ctx) })
	running.Go(func() { c.changed.run(ctx) })
	running.Go(func() { c.podGone.run(ctx) })
	running.Wait()
	c.apis.close()
	return nil
}

// Synced returns nil when all that the agent watches is known, and else an
// error that names what is missing, and why.
func (c *Client) Synced() error {
	var missing []string
	for _, s := range []struct {
		name     string
		informer *informer
		without  bool
	}{
		{resourceDefinitions, c.defs, false},
		{resourcePods, c.pods, false},
		{resourceNodes, c.node, false},
		{resourceNamespaces, c.namespaces, !c.opts.Namespaces},
		{resourceServiceCIDRs, c.cidrs, c.withoutCIDRs.Load()},
	} {
		if !s.without && !s.informer.heard.HasSynced() {
			missing = append(missing, s.name+" ("+c.weather.why(s.name)+")")
		}
	}
	if len(missing) > 0 {
		return network.Again.Errorf("not known yet: %s", strings.Join(missing, ", "))
	}
	return nil
}
