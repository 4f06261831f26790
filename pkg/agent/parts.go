package agent

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// With adds a part that runs as long as the agent does, before Run. It ends
// the agent when it fails.
func (a *Agent) With(part func(context.Context) error) { a.parts = append(a.parts, part) }

// Collect adds metrics, before Run.
func (a *Agent) Collect(c prometheus.Collector) error { return a.metrics.registry.Register(c) }

// Holders returns the pods that kubelet gave devices to, as namespace/name by
// the devices' IDs, as of the last sweep; nil while that is not known.
func (a *Agent) Holders() map[string]string { return a.pools.holders() }
