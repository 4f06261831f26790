package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
)

// The values of Options.Publish.
const (
	PublishMulti = "multi" // pods with more than the cluster network
	PublishAll   = "all"
	PublishOff   = "off"
)

// The values of Options.Events.
const (
	EventsFailures = "failures"
	EventsAll      = "all"
	EventsNone     = "none"
)

// Options are what the agent is told.
type Options struct {
	StateDir   string // the plugin's stateDir
	Socket     string // where the plugin asks
	NetnsDir   string // where the pods' namespaces can be seen: /run/netns
	BootIDPath string
	Publish    string         // which pods get network-status
	Events     string         // which events are written
	Ranges     []netip.Prefix // the cluster's, besides those that it tells itself
	Sweep      time.Duration  // between two looks at the journals

	MetricsAddress string // of /healthz, /readyz and /metrics; "" = nowhere
	Version        string
	Log            *slog.Logger
	Now            func() time.Time
}

// Agent is the node's agent. Its zero value is of no use; see New.
type Agent struct {
	Options
	cluster   *k8sclient.Client
	kubelet   *kubelet.Resources
	store     *journal.Store
	metrics   *metrics
	word      *word
	pools     *pools
	publisher *publisher
	look      chan struct{} // asks for a look at the journals
	parts     []func(context.Context) error
	hold      func(context.Context) error // what parts wait for that are added now

	conditions []func() error // of readiness

	socketFile os.FileInfo // of our socket
}

// New returns an agent that is to be run once. Client options Changed and
// PodGone are the agent's own.
func New(options Options, client k8sclient.Options, devices *kubelet.Resources) (*Agent, error) {
	a := &Agent{Options: options, kubelet: devices, look: make(chan struct{}, 1)}
	a.store = &journal.Store{Dir: options.StateDir, Now: options.Now}
	a.metrics = newMetrics(options.Version)
	a.word = &word{agent: a, changed: make(chan struct{}, 1), written: errors.New("cluster.json is not written yet")}
	a.publisher, a.pools = newPublisher(a), &pools{agent: a, ask: make(chan struct{}, 1)}
	client.Changed, client.PodGone = func() { poke(a.word.changed) }, func() { poke(a.look) }
	var err error
	a.cluster, err = k8sclient.New(client)
	return a, err
}

// Run serves until ctx ends. Whatever ends first ends all.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.word.load(); err != nil {
		a.Log.Warn("the last word of the agent before is not read", "error", err.Error())
	}
	// The socket last: it is taken over from an agent that may still be of use.
	web, err := a.listenHTTP(ctx)
	if err != nil {
		return err
	}
	listener, err := agentapi.Listen(a.Socket)
	if err != nil {
		return errors.Join(err, closed(web))
	}
	a.socketFile = listener.File
	server := &agentapi.Server{Answer: a.Answer, Log: a.Log, Busy: busy, Queue: queue}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for _, part := range append([]func(context.Context) error{
		a.cluster.Run, a.word.run, a.publisher.run, a.watchJournals, a.pools.run,
		func(ctx context.Context) error { return server.Serve(ctx, listener) },
		func(ctx context.Context) error { return a.serveHTTP(ctx, web) },
	}, a.parts...) {
		running.Go(func() {
			defer stop()
			if partErr := part(ctx); partErr != nil && !errors.Is(partErr, context.Canceled) {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, partErr)
			}
		})
	}
	running.Go(func() { a.tellReady(ctx) })
	running.Wait()
	a.Log.Info("ended")
	return errors.Join(append(failed, a.kubelet.Close())...)
}

// tellReady says in the log when the agent becomes ready, or what it waits for.
func (a *Agent) tellReady(ctx context.Context) {
	for looks := 1; ; looks++ {
		err := a.Ready()
		if err == nil {
			a.Log.Info("ready")
			return
		}
		if looks%looksUntilTold == 0 {
			a.Log.Warn("not ready yet", "error", err.Error())
		}
		if !sleep(ctx, untilKnown) {
			return
		}
	}
}

// looksUntilTold is after how many looks the log says what the agent waits
// for: every 10 s.
const looksUntilTold = int(10 * time.Second / untilKnown)

// reachable ends an agent whose socket another one took over and then left:
// plugins could not reach either. Whoever runs us starts us again.
func (a *Agent) reachable() error {
	now, err := os.Stat(a.Socket)
	if err == nil && os.SameFile(now, a.socketFile) {
		return nil
	}
	conn, err := net.Dial("unix", a.Socket)
	if err != nil {
		return fmt.Errorf("our socket is gone, and so is the agent that took it over: %w", err)
	}
	return conn.Close()
}

// How many requests are answered at once, and how many wait for their turn: a
// node starts a few pods at a time, and a plugin waits for 2 s.
const (
	busy  = 32
	queue = 512
)

// Ready reports what /readyz waits for, or nil.
func (a *Agent) Ready() error {
	if err := a.Known(); err != nil {
		return err
	}
	var failed []error
	for _, condition := range a.conditions {
		failed = append(failed, condition())
	}
	return errors.Join(failed...)
}

// Known reports why the agent cannot answer yet, or nil. Its last word is part
// of it: plain pods go by that alone.
func (a *Agent) Known() error {
	if err := a.cluster.Synced(); err != nil {
		return err
	}
	return errors.Join(a.cluster.Node(), a.word.said())
}

// poke wakes whoever waits on a channel, once.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
