package agent

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// vfPatience is how long a scrape waits for a look at the VFs: a driver that
// resets its card can hold the kernel's answer up.
const vfPatience = 2 * time.Second

// ShowVFs adds the node's VFs to the metrics, before Run. The inventory's
// Boot and Lives are the agent's own.
func (a *Agent) ShowVFs(inventory sriov.Inventory) error {
	boot, err := podns.BootID(a.BootIDPath)
	if err != nil {
		return network.IO.Errorf("%w", err)
	}
	inventory.Boot = boot
	look := func() *vfLook {
		i, l := inventory, &vfLook{}
		i.Lives, i.Allocated = a.view(boot).lives, a.pools.holders()
		l.pfs, l.rows, l.err = i.Look()
		return l
	}
	return a.metrics.registry.Register(newVFCollector(look, vfPatience, a.Log))
}

// Lives reports whether a pod's namespace is there, or cannot be told not to be.
func (a *Agent) Lives(ref podns.Ref) bool {
	boot, err := podns.BootID(a.BootIDPath)
	return err != nil || a.view(boot).lives(ref)
}

func (a *Agent) view(boot string) *netnsView {
	return &netnsView{agent: a, boot: boot, proven: sync.OnceValue(func() bool { return a.viewProvenNow(boot) })}
}

// netnsView judges namespaces by their names, as the sweep does: the agent
// has no right to enter one.
type netnsView struct {
	agent  *Agent
	boot   string
	proven func() bool // that the names are the host's; asked only when one is missing
}

// lives reports whether a namespace is there, or cannot be told not to be.
func (v *netnsView) lives(ref podns.Ref) bool {
	if ref.Boot != v.boot {
		return false
	}
	seen, judged := v.agent.sees(&journal.Contents{Header: journal.Header{Netns: ref.Path}})
	return seen || !judged || !v.proven()
}

func (a *Agent) viewProvenNow(boot string) bool {
	if a.cluster.Synced() != nil {
		return false
	}
	journals, err := a.readJournals()
	return err == nil && a.viewProven(journals, boot)
}

// vfLook is one look at the node's VFs.
type vfLook struct {
	pfs  []string
	rows []sriov.VFRow
	err  error
	done chan struct{} // closed when the rest is there
}

// vfCollector looks at the VFs when it is scraped.
type vfCollector struct {
	look     func() *vfLook
	patience time.Duration
	log      *slog.Logger

	states, info *prometheus.Desc
	counters     []vfCounter
	failures     prometheus.Counter

	mu      sync.Mutex
	running *vfLook // scrapes that come meanwhile wait for the same look
	told    string  // the last trouble that the log has
}

// vfCounter is one of a VF's counters.
type vfCounter struct {
	desc *prometheus.Desc
	of   func(*sriov.VFCounters) uint64
}

func newVFCollector(look func() *vfLook, patience time.Duration, log *slog.Logger) *vfCollector {
	of := []string{"pf", "vf", "pci"}
	counter := func(name, help string, get func(*sriov.VFCounters) uint64) vfCounter {
		return vfCounter{desc: prometheus.NewDesc("multiplexer_vf_"+name+"_total", help, of, nil), of: get}
	}
	return &vfCollector{
		look: look, patience: patience, log: log,
		states: prometheus.NewDesc("multiplexer_vfs", "VFs of this node, by PF and state.", []string{"pf", "state"}, nil),
		info: prometheus.NewDesc("multiplexer_vf_info", "Whose a VF is; always 1.",
			append(of, "state", "namespace", "pod", "network"), nil),
		counters: []vfCounter{
			counter("receive_bytes", "Bytes that a VF received, as its PF's driver counts.", func(c *sriov.VFCounters) uint64 { return c.RxBytes }),
			counter("receive_packets", "Packets that a VF received.", func(c *sriov.VFCounters) uint64 { return c.RxPackets }),
			counter("receive_dropped", "Packets for a VF that were dropped.", func(c *sriov.VFCounters) uint64 { return c.RxDropped }),
			counter("transmit_bytes", "Bytes that a VF sent.", func(c *sriov.VFCounters) uint64 { return c.TxBytes }),
			counter("transmit_packets", "Packets that a VF sent.", func(c *sriov.VFCounters) uint64 { return c.TxPackets }),
			counter("transmit_dropped", "Packets of a VF that were dropped.", func(c *sriov.VFCounters) uint64 { return c.TxDropped }),
		},
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "multiplexer_vf_look_failures_total", Help: "Looks at the VFs that took too long, or did not see all of them.",
		}),
	}
}

// Describe implements prometheus.Collector.
func (c *vfCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.states
	out <- c.info
	for i := range c.counters {
		out <- c.counters[i].desc
	}
	c.failures.Describe(out)
}

// Collect implements prometheus.Collector. What cannot be told is left out:
// the agent's other metrics must not suffer from it.
func (c *vfCollector) Collect(out chan<- prometheus.Metric) {
	l := c.begin()
	select {
	case <-l.done:
		c.tell(l.err)
		c.count(out, l)
		for i := range l.rows {
			c.show(out, &l.rows[i])
		}
	case <-time.After(c.patience):
		c.tell(network.Again.Errorf("no answer in %s", c.patience))
	}
	c.failures.Collect(out)
}

// begin returns the look that goes on, or a new one.
func (c *vfCollector) begin() *vfLook {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		return c.running
	}
	l := &vfLook{done: make(chan struct{})}
	c.running = l
	go func() {
		found := c.look()
		l.pfs, l.rows, l.err = found.pfs, found.rows, found.err
		c.mu.Lock()
		c.running = nil
		c.mu.Unlock()
		close(l.done)
	}()
	return l
}

// tell counts trouble, and logs it when it is another one than before.
func (c *vfCollector) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		c.failures.Inc()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if text != "" && text != c.told {
		c.log.Warn("the VFs are not all in the metrics", "error", text)
	}
	c.told = text
}

// count shows how many VFs of each PF are in which state. Every state is
// there, and every PF, so that none left can be told from nothing known.
func (c *vfCollector) count(out chan<- prometheus.Metric, l *vfLook) {
	numbers := map[string]map[sriov.State]int{}
	for _, pf := range l.pfs {
		numbers[pf] = map[sriov.State]int{}
	}
	for i := range l.rows {
		row := &l.rows[i]
		if numbers[row.PF] == nil {
			numbers[row.PF] = map[sriov.State]int{}
		}
		if row.VF >= 0 { // a PF in a pod is no VF
			numbers[row.PF][row.State]++
		}
	}
	for pf, states := range numbers {
		for _, state := range sriov.States() {
			put(out, c.states, prometheus.GaugeValue, float64(states[state]), pf, string(state))
		}
	}
}

// show shows one VF. Whose it is stands apart from its counters, so that they
// go on when the VF goes to another pod.
func (c *vfCollector) show(out chan<- prometheus.Metric, row *sriov.VFRow) {
	put(out, c.info, prometheus.GaugeValue, 1, row.PF, row.Index(), row.PCI, string(row.State), row.Namespace, row.Pod, row.Network)
	if row.Counters == nil {
		return
	}
	for i := range c.counters {
		put(out, c.counters[i].desc, prometheus.CounterValue, float64(c.counters[i].of(row.Counters)), row.PF, row.Index(), row.PCI)
	}
}

// put sends a metric. A network device's name may be any bytes, a label not.
func put(out chan<- prometheus.Metric, desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "?")
	}
	out <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
}
