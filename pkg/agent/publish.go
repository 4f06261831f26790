package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// publisher shows on the pods what their journals say: at once when the
// plugin says that a journal is complete, and again from the journal until
// the API server has it.
type publisher struct {
	agent *Agent
	later workqueue.TypedRateLimitingInterface[string] // containers

	mu    sync.Mutex
	shown map[string]string        // by container, what its pod was given: UID and digest
	busy  map[string]chan struct{} // by container, closed when the try for it ends
	quiet time.Time                // until then no plugin waits for the API server
}

// The pauses between two tries for one pod.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

func newPublisher(a *Agent) *publisher {
	pauses := workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)
	return &publisher{agent: a, later: workqueue.NewTypedRateLimitingQueue(pauses), shown: map[string]string{}, busy: map[string]chan struct{}{}}
}

// pause is how long no plugin waits after the API server did not answer: one
// that is down must not cost every pod its plugin's patience.
const pause = 10 * time.Second

// now publishes while a plugin waits. What the API server does not take in
// that time is tried again later: it delays a label, not a pod.
func (p *publisher) now(ctx context.Context, container string) error {
	if err := network.ValidateContainerID(container); err != nil {
		return err
	}
	if p.isQuiet() {
		p.later.AddRateLimited(container)
		return nil
	}
	p.try(ctx, container)
	return nil
}

// run tries again what did not succeed, until ctx ends.
func (p *publisher) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, p.later.ShutDown)()
	for {
		container, shutdown := p.later.Get()
		if shutdown {
			return nil
		}
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		p.try(within, container)
		cancel()
		p.later.Done(container)
	}
}

// turn waits while somebody else publishes the container: of two at a time
// both would write. It reports false when ctx ended first; the other one takes
// care of the container then.
func (p *publisher) turn(ctx context.Context, container string) bool {
	for {
		p.mu.Lock()
		ends, busy := p.busy[container]
		if !busy {
			p.busy[container] = make(chan struct{})
		}
		p.mu.Unlock()
		if !busy {
			return true
		}
		select {
		case <-ends:
		case <-ctx.Done():
			return false
		}
	}
}

// endTurn lets the next one publish the container.
func (p *publisher) endTurn(container string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.busy[container])
	delete(p.busy, container)
}

// try publishes one container's journal, and takes it up again if that fails.
func (p *publisher) try(ctx context.Context, container string) {
	if !p.turn(ctx, container) {
		return
	}
	defer p.endTurn(container)
	err := p.publish(ctx, container)
	switch {
	case err == nil:
		p.later.Forget(container)
	case errors.Is(err, k8sclient.ErrGone), errors.Is(err, journal.ErrAbsent):
		p.later.Forget(container) // there is nobody to tell
	case errors.Is(err, network.Invalid):
		p.later.Forget(container)
		p.agent.Log.Error("network-status cannot be published, and is not tried again", "container", container, "error", err.Error())
	default:
		p.agent.metrics.statusRetries.Inc()
		p.agent.Log.Warn("network-status is tried again", "container", container, "error", err.Error())
		p.later.AddRateLimited(container)
		if errors.Is(err, network.Again) {
			p.setQuiet(p.agent.Now().Add(pause))
		}
	}
}

func (p *publisher) isQuiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.agent.Now().Before(p.quiet)
}

func (p *publisher) setQuiet(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = until
}

func (p *publisher) publish(ctx context.Context, container string) error {
	contents, err := p.agent.store.Peek(container)
	if err != nil {
		return err
	}
	if !p.agent.wanted(contents) {
		return nil
	}
	list, warnings, err := attached(contents)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	value, err := network.EncodeStatus(network.StatusOf(list))
	if err != nil {
		return err
	}
	pod := p.agent.podOf(contents)
	digest := k8sclient.Digest(value)
	given := pod.UID + " " + digest
	if pod.Status == digest || p.shows(container, given) {
		return nil
	}
	_, err = measured(p.agent, agentapi.VerbPublish, "patch", func() (any, error) { return nil, p.patch(ctx, pod, value) })
	if err == nil || errors.Is(err, network.Invalid) { // what is refused once is refused again
		p.show(container, given)
	}
	if err == nil {
		p.setQuiet(time.Time{})
		p.agent.announce(pod, list, warnings)
	}
	return err
}

// shows reports whether the pod was given this status already: the cache may
// not have seen it yet.
func (p *publisher) shows(container, given string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown[container] == given
}

func (p *publisher) show(container, given string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown[container] = given
}

// containers are those whose pods were given a status.
func (p *publisher) containers() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.shown))
}

// forget drops those of the containers that have no journal any more. They
// were known before the journals were read: a younger one is not in them yet.
func (p *publisher) forget(known []string, journals map[string]*journal.Contents) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, container := range known {
		if journals[container] == nil {
			delete(p.shown, container)
		}
	}
}

// patch writes the annotation. A pod that is not in the cache has the UID
// that the runtime knows, unless it is a static pod's: that one is looked up.
func (p *publisher) patch(ctx context.Context, pod *k8sclient.Pod, value string) error {
	if pod.UID != "" {
		err := p.agent.cluster.PublishStatus(ctx, pod, value)
		if !errors.Is(err, k8sclient.ErrGone) {
			return err
		}
	}
	found, err := p.agent.cluster.Pod(ctx, pod.Namespace, pod.Name, pod.UID)
	if err != nil || found.UID == pod.UID {
		return errors.Join(err, k8sclient.ErrGone)
	}
	return p.agent.cluster.PublishStatus(ctx, found, value)
}

// wanted reports whether a journal's pod is to have a network-status.
func (a *Agent) wanted(c *journal.Contents) bool {
	if !c.Complete || c.Releasing != "" || c.Header.Pod == "" || c.Hides() { // what it has at present was shown
		return false
	}
	networks := len(c.Records)
	if c.Header.Chained {
		networks++
	}
	return a.Publish == PublishAll || a.Publish == PublishMulti && networks > 1
}

// podOf is the pod of a journal, as the cache has it or the runtime named it.
func (a *Agent) podOf(c *journal.Contents) *k8sclient.Pod {
	namespace, name := c.Pod()
	if pod, ok := a.cluster.CachedPod(namespace, name, c.Header.UID); ok {
		return pod
	}
	return &k8sclient.Pod{Namespace: namespace, Name: name, UID: c.Header.UID}
}

// announce writes the events of a pod that is attached.
func (a *Agent) announce(pod *k8sclient.Pod, list []network.Attached, warnings []string) {
	if a.Events == EventsNone {
		return
	}
	for _, w := range warnings {
		a.cluster.Event(pod, true, "RoutingWarning", w)
	}
	if a.Events != EventsAll {
		return
	}
	for _, s := range network.StatusOf(list) {
		a.cluster.Event(pod, false, "AddedInterface", fmt.Sprintf("Add %s [%s] from %s", s.Interface, strings.Join(s.IPs, " "), s.Name))
	}
}
