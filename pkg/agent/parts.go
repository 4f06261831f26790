package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// With adds a part that runs as long as the agent does, before Run. It ends
// the agent when it fails.
func (a *Agent) With(part func(context.Context) error) {
	if wait := a.hold; wait != nil {
		held := part
		part = func(ctx context.Context) error {
			if err := wait(ctx); err != nil {
				return err
			}
			return held(ctx)
		}
	}
	a.parts = append(a.parts, part)
}

// Hold lets parts that are added from now on begin when wait has returned;
// nil ends that.
func (a *Agent) Hold(wait func(context.Context) error) { a.hold = wait }

// Require adds a condition for readiness, before Run. What the agent knows
// comes before it.
func (a *Agent) Require(condition func() error) { a.conditions = append(a.conditions, condition) }

// NodeEvent writes an event about the node. It does not wait.
func (a *Agent) NodeEvent(warning bool, reason, text string) {
	a.cluster.NodeEvent(warning, reason, text)
}

// DaemonSet returns the UID of the DaemonSet that a pod belongs to, or "", and
// when the pod was created.
func (a *Agent) DaemonSet(ctx context.Context, namespace, pod string) (uid string, created time.Time, err error) {
	return a.cluster.DaemonSet(ctx, namespace, pod)
}

// Collect adds metrics, before Run.
func (a *Agent) Collect(c prometheus.Collector) error { return a.metrics.registry.Register(c) }

// Holders returns the pods that kubelet gave devices to, as namespace/name by
// the devices' IDs, and when kubelet was asked; nil while that is not known.
func (a *Agent) Holders() (map[string]string, time.Time) {
	a.pools.mu.Lock()
	defer a.pools.mu.Unlock()
	return a.pools.given, a.pools.asked
}

// AskHolders makes what Holders returns newer soon.
func (a *Agent) AskHolders() { poke(a.pools.ask) }
