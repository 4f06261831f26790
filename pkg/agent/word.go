package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// word keeps the agent's last word on disk, for plugins that find it gone.
type word struct {
	agent   *Agent
	changed chan struct{}

	mu       sync.Mutex
	networks []agentapi.Reference // that the plugin's configuration names
	facts    *agentapi.Facts      // of the agent before us; nil when it left none
	written  error                // why the word is not on disk, or nil
}

// load takes over what the agent before us knew: the networks that a plugin's
// configuration names, since no plugin may ask soon, and the cluster's facts,
// until we have them ourselves.
func (w *word) load() error {
	last, err := agentapi.LoadCopy(w.agent.StateDir)
	if last != nil && err == nil {
		w.learn(last.Networks)
		w.facts = &last.Facts
	}
	return err
}

// learn takes the networks that a plugin's configuration names. There is one
// configuration on a node, so the newest list counts.
func (w *word) learn(networks []agentapi.Reference) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.networks, networks) {
		w.networks = slices.Clone(networks)
		poke(w.changed)
	}
}

// settle is how long changes are gathered: the first lists of the informers
// come one object at a time. It counts from the first change, so that those
// that never end do not put the word off for ever.
const settle = 10 * time.Millisecond

// The pauses before the word is tried again: while the cluster is not known,
// and when it could not be written.
const (
	untilKnown   = 50 * time.Millisecond
	untilWritten = time.Second
)

// run writes the word whenever the cluster says something new, once all of
// it is known: half a word is worse than an old one.
func (w *word) run(ctx context.Context) error {
	poke(w.changed)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		}
		if !sleep(ctx, settle) {
			return nil
		}
		again, err := untilKnown, w.agent.cluster.Synced()
		if err == nil {
			again, err = untilWritten, w.write(ctx)
			w.unsaid(err)
		}
		if err != nil {
			poke(w.changed)
			if !sleep(ctx, again) {
				return nil
			}
		}
	}
}

// unsaid keeps why the word is not on disk, and tells it once.
func (w *word) unsaid(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && (w.written == nil || w.written.Error() != err.Error()) {
		w.agent.Log.Error("the agent's last word is not on disk: plain pods go by an older one", "error", err.Error())
	}
	w.written = err
}

// said reports why the last word is not on disk as it should be, or nil.
func (w *word) said() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (w *word) write(ctx context.Context) error {
	w.mu.Lock()
	networks := slices.Clone(w.networks)
	w.mu.Unlock()
	definitions, err := w.agent.definitions(ctx, networks)
	if err != nil {
		return err
	}
	facts, err := w.agent.facts()
	if err != nil {
		return err
	}
	said := agentapi.Copy{Namespaces: w.agent.cluster.NamespacesWithNetworks(), Networks: networks, Definitions: definitions, Facts: facts}
	return said.Save(w.agent.StateDir)
}
