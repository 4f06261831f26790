package deviceplugin

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

type resourceConfig = resource.Config

// metric returns the sum of a metric's values, of those with all the labels.
func metric(t *testing.T, m *Manager, name string, labels ...string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	must(t, r.Register(m.Collector()))
	families, err := r.Gather()
	must(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, one := range f.GetMetric() {
			for _, want := range labels {
				found := false
				for _, l := range one.GetLabel() {
					found = found || l.GetName()+"="+l.GetValue() == want
				}
				if !found {
					continue next
				}
			}
			sum += one.GetGauge().GetValue() + one.GetCounter().GetValue()
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	b, pf, all := vfBed(t, 3)
	r := record(pf, all[0], 0)
	r.Failed = "no"
	b.claim(r)
	b.require(fast, all[1:], all[:1])
	_, _, err := b.kubelet.Allocate(fast, 1)
	must(t, err)
	if _, err = b.manager.allocate(t.Context(), fast, []string{all[0]}); err == nil {
		t.Error("a quarantined VF was allocated")
	}
	b.until("kubelet confirmed", func() bool {
		return metric(t, b.manager, "multiplexer_device_plugin_registered", "resource="+fast) == 1
	})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"multiplexer_device_plugin_devices", []string{"resource=" + fast, "health=Healthy"}, 2},
		{"multiplexer_device_plugin_devices", []string{"resource=" + fast, "health=Unhealthy"}, 1},
		{"multiplexer_device_plugin_allocations_total", []string{"resource=" + fast, "result=ok"}, 1},
		{"multiplexer_device_plugin_allocations_total", []string{"resource=" + fast, "result=error"}, 1},
		{"multiplexer_device_plugin_config_errors", nil, 0},
		{"multiplexer_device_plugin_rescans_total", []string{"cause=start"}, 1},
	} {
		if got := metric(t, b.manager, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	b.until("a look is counted that a claim caused", func() bool {
		return metric(t, b.manager, "multiplexer_device_plugin_rescans_total", "cause=claim") >= 1
	})
}
