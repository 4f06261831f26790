package deviceplugin

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
)

// counts are what only goes up.
type counts struct {
	looks       map[string]int    // by cause
	allocations map[[2]string]int // by resource and result
}

func (c *counts) allocated(resource, result string) {
	if c.allocations == nil {
		c.allocations = map[[2]string]int{}
	}
	c.allocations[[2]string{resource, result}]++
}

// count counts a look that has ended.
func (m *Manager) count(causes map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts.looks == nil {
		m.counts.looks = map[string]int{}
	}
	for cause := range causes {
		m.counts.looks[cause]++
	}
}

// Offered is what a resource lists to kubelet.
type Offered struct {
	Resource string
	Plugin   kubelet.PluginStatus
	Devices  []Listed // by PCI address
}

// Listed is a device on that list.
type Listed struct {
	PCI    string
	PF     string // PCI address
	Reason string // why it is Unhealthy; "" = it is Healthy
}

// Offered returns what is served now, by resource name.
func (m *Manager) Offered() []Offered {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Offered
	for _, name := range sortedKeys(m.servers) {
		s := m.servers[name]
		o := Offered{Resource: name, Plugin: s.plugin.Status()}
		for _, d := range s.list {
			if i := m.items[d.GetID()]; i != nil && i.Resource == name && s.end.IsZero() {
				o.Devices = append(o.Devices, Listed{PCI: i.PCI, PF: i.PF, Reason: i.reason})
			}
		}
		all = append(all, o)
	}
	return all
}

// Waiting returns the devices that a resource selects and that are not offered,
// each with the reason, by PCI address.
func (m *Manager) Waiting() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	for pci, why := range m.waiting {
		all[pci] = why
	}
	return all
}

// collector shows a Manager in the metrics.
type collector struct {
	manager                                            *Manager
	devices, registered, allocations, problems, rescan *prometheus.Desc
}

// Collector returns the manager's metrics.
func (m *Manager) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("multiplexer_device_plugin_"+name, help, labels, nil)
	}
	return &collector{
		manager:     m,
		devices:     desc("devices", "Devices that a resource lists to kubelet, by health.", "resource", "health"),
		registered:  desc("registered", "Whether kubelet knows a resource's plugin: 1 or 0.", "resource"),
		allocations: desc("allocations_total", "Containers that were given devices of a resource, or were not.", "resource", "result"),
		problems:    desc("config_errors", "What is wrong with the configuration file as it is now."),
		rescan:      desc("rescans_total", "Looks at the node's devices, by what caused them; some have several causes.", "cause"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.devices, c.registered, c.allocations, c.problems, c.rescan} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(desc *prometheus.Desc, kind prometheus.ValueType, value int, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		out <- prometheus.MustNewConstMetric(desc, kind, float64(value), labels...)
	}
	for _, o := range c.manager.Offered() {
		well := 0
		for _, d := range o.Devices {
			well += yes(d.Reason == "")
		}
		put(c.devices, prometheus.GaugeValue, well, o.Resource, deviceplugin.Healthy)
		put(c.devices, prometheus.GaugeValue, len(o.Devices)-well, o.Resource, deviceplugin.Unhealthy)
		put(c.registered, prometheus.GaugeValue, yes(o.Plugin.Registered != kubelet.Unregistered), o.Resource)
	}
	m := c.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, n := range m.counts.allocations {
		put(c.allocations, prometheus.CounterValue, n, key[0], key[1])
	}
	put(c.problems, prometheus.GaugeValue, m.config.problems)
	for cause, n := range m.counts.looks {
		put(c.rescan, prometheus.CounterValue, n, cause)
	}
}
