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
}

// load takes over the networks that the agent before us knew of: no plugin
// may ask before the next reboot.
func (w *word) load() error {
	last, err := agentapi.LoadCopy(w.agent.StateDir)
	if last != nil {
		w.learn(last.Networks)
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
// come one object at a time.
const settle = 10 * time.Millisecond

// run writes the word whenever the cluster says something new, once all of
// it is known: half a word is worse than an old one.
func (w *word) run(ctx context.Context) error {
	poke(w.changed)
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			wait = settle
		case <-after(wait):
			wait = 0
			if w.agent.cluster.Synced() != nil {
				wait = settle // readiness says why
			} else if err := w.write(ctx); err != nil {
				w.agent.Log.Warn("the agent's last word is not on disk: pods that ask for nothing may wait for the agent", "error", err.Error())
				wait = time.Second
			}
		}
	}
}

// after is time.After, but never for no time.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

func (w *word) write(ctx context.Context) error {
	w.mu.Lock()
	networks := slices.Clone(w.networks)
	w.mu.Unlock()
	definitions, err := w.agent.definitions(ctx, networks)
	if err != nil {
		return err
	}
	said := agentapi.Copy{
		Namespaces: w.agent.cluster.NamespacesWithNetworks(), Networks: networks, Definitions: definitions, Facts: w.agent.facts(),
	}
	return said.Save(w.agent.StateDir)
}
