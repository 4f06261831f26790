package agent

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// metrics are the agent's own (docs/agent.md names them).
type metrics struct {
	registry      *prometheus.Registry
	requests      *prometheus.CounterVec
	durations     *prometheus.HistogramVec
	attachments   *prometheus.GaugeVec
	journals      *prometheus.GaugeVec
	leftovers     prometheus.Gauge
	statusRetries prometheus.Counter
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "multiplexer_requests_total", Help: "Requests of the plugin.",
		}, []string{"verb", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "multiplexer_request_duration_seconds", Help: "Time that requests of the plugin take, as a whole and by phase.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"verb", "phase"}),
		attachments: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "multiplexer_attachments", Help: "Attachments on this node, by network.",
		}, []string{"network"}),
		journals: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "multiplexer_journal_entries", Help: "Containers with a journal on this node, by state.",
		}, []string{"state"}),
		leftovers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "multiplexer_leftovers", Help: "Containers that wait for their release.",
		}),
		statusRetries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "multiplexer_status_retries_total", Help: "Times that network-status could not be published and is tried again.",
		}),
	}
	m.registry.MustRegister(m.requests, m.durations, m.attachments, m.journals, m.leftovers, m.statusRetries,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "multiplexer_build_info", Help: "The agent's version; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 }))
	return m
}

// request begins to measure one request; what it returns ends that.
func (m *metrics) request(verb string) func(error) {
	switch verb {
	case agentapi.VerbPlan, agentapi.VerbPublish, agentapi.VerbFailed:
	default:
		verb = "unknown"
	}
	start := time.Now()
	return func(err error) {
		result := "ok"
		if err != nil {
			result = "error"
		}
		m.requests.WithLabelValues(verb, result).Inc()
		m.durations.WithLabelValues(verb, "whole").Observe(time.Since(start).Seconds())
	}
}

// measured runs one phase of a request.
func measured[T any](a *Agent, verb, phase string, run func() (T, error)) (T, error) {
	start := time.Now()
	defer func() { a.metrics.durations.WithLabelValues(verb, phase).Observe(time.Since(start).Seconds()) }()
	return run()
}

// count shows what the journals say.
func (m *metrics) count(journals map[string]*journal.Contents, leftovers int) {
	m.attachments.Reset()
	m.journals.Reset()
	m.leftovers.Set(float64(leftovers))
	for _, c := range journals {
		m.journals.WithLabelValues(c.Phase()).Inc()
		for i := range c.Records {
			if c.Records[i].Step == journal.Added && !c.Records[i].Hidden {
				m.attachments.WithLabelValues(c.Records[i].Reference).Inc()
			}
		}
	}
}
