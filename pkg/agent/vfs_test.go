package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// scrape returns the metrics as name{labels} value.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

func collectorOf(t *testing.T, patience time.Duration, look func() *vfLook) (*prometheus.Registry, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(newVFCollector(look, patience, slog.New(slog.NewTextHandler(&log, nil)))); err != nil {
		t.Fatal(err)
	}
	return registry, &log
}

func TestVFMetrics(t *testing.T) {
	registry, log := collectorOf(t, time.Minute, func() *vfLook {
		return &vfLook{pfs: []string{"ens1", "ens2"}, rows: []sriov.VFRow{
			{PF: "ens1", VF: -1, PCI: "0000:01:00.0", State: sriov.InPod},
			{
				PF: "ens1", VF: 0, PCI: "0000:01:10.0", State: sriov.InPod, Namespace: "shop", Pod: "web", Network: "blue",
				Counters: &sriov.VFCounters{RxBytes: 1, RxPackets: 2, RxDropped: 3, TxBytes: 4, TxPackets: 5, TxDropped: 6},
			},
			{PF: "ens1", VF: 1, PCI: "0000:01:10.1", State: sriov.Free},
			{PF: "bad\xff", VF: 3, PCI: "0000:09:10.3", State: sriov.Leaked},
		}}
	})
	const of = "{pci=0000:01:10.0,pf=ens1,vf=0}"
	want := map[string]float64{
		"multiplexer_vfs{pf=ens1,state=free}": 1, "multiplexer_vfs{pf=ens1,state=in pod}": 1,
		"multiplexer_vfs{pf=bad?,state=leaked}":                                                               1,
		"multiplexer_vf_info{namespace=,network=,pci=0000:01:00.0,pf=ens1,pod=,state=in pod,vf=-}":            1,
		"multiplexer_vf_info{namespace=shop,network=blue,pci=0000:01:10.0,pf=ens1,pod=web,state=in pod,vf=0}": 1,
		"multiplexer_vf_info{namespace=,network=,pci=0000:01:10.1,pf=ens1,pod=,state=free,vf=1}":              1,
		"multiplexer_vf_info{namespace=,network=,pci=0000:09:10.3,pf=bad?,pod=,state=leaked,vf=3}":            1,
		"multiplexer_vf_receive_bytes_total" + of:                                                             1,
		"multiplexer_vf_receive_packets_total" + of:                                                           2,
		"multiplexer_vf_receive_dropped_total" + of:                                                           3,
		"multiplexer_vf_transmit_bytes_total" + of:                                                            4,
		"multiplexer_vf_transmit_packets_total" + of:                                                          5,
		"multiplexer_vf_transmit_dropped_total" + of:                                                          6,
		"multiplexer_vf_look_failures_total{}":                                                                0,
	}
	for _, pf := range []string{"ens1", "ens2", "bad?"} {
		for _, state := range []string{"free", "allocated", "in pod", "leaked", "quarantined"} {
			want["multiplexer_vfs{pf="+pf+",state="+state+"}"] += 0 // absent is not zero
		}
	}
	if diff := cmp.Diff(want, scrape(t, registry)); diff != "" || log.Len() > 0 {
		t.Errorf("%s\n%s", log, diff)
	}
}

// What is seen is shown, and the same trouble is logged once.
func TestVFMetricsWithTrouble(t *testing.T) {
	var trouble error
	registry, log := collectorOf(t, time.Minute, func() *vfLook {
		return &vfLook{pfs: []string{"ens1"}, err: trouble}
	})
	for round, err := range []error{errors.New("one"), errors.New("one"), nil, errors.New("one"), errors.New("two")} {
		trouble = err
		if got := scrape(t, registry); got["multiplexer_vf_look_failures_total{}"] != []float64{1, 2, 2, 3, 4}[round] || len(got) != 6 {
			t.Errorf("round %d: %v", round, got)
		}
	}
	if strings.Count(log.String(), "error=one") != 2 || strings.Count(log.String(), "error=two") != 1 {
		t.Error(log)
	}
}

// A driver that does not answer holds neither the other metrics up nor more
// than one look, and is seen again when it answers.
func TestVFMetricsInTime(t *testing.T) {
	var looks atomic.Int32
	answer := make(chan struct{})
	registry, log := collectorOf(t, 20*time.Millisecond, func() *vfLook {
		looks.Add(1)
		<-answer
		return &vfLook{pfs: []string{"ens1"}}
	})
	var scrapes sync.WaitGroup
	for range 8 {
		scrapes.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	scrapes.Wait()
	if got := scrape(t, registry); len(got) != 1 || got["multiplexer_vf_look_failures_total{}"] != 9 || looks.Load() != 1 {
		t.Errorf("%d looks, %v", looks.Load(), got)
	}
	if strings.Count(log.String(), "no answer in 20ms") != 1 {
		t.Error(log)
	}
	close(answer)
	for deadline := time.Now().Add(10 * time.Second); len(scrape(t, registry)) != 6; {
		if time.Now().After(deadline) {
			t.Fatal("the VFs stay away")
		}
	}
}

// A namespace is gone only where that can be told.
func TestNamespacesOfVFs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &Agent{Options: Options{NetnsDir: dir}}
	for name, c := range map[string]struct {
		ref           podns.Ref
		proven, lives bool
	}{
		"another boot":            {podns.Ref{Boot: "b", Path: "/run/netns/there"}, true, false},
		"there":                   {podns.Ref{Boot: "a", Path: "/run/netns/there"}, true, true},
		"there, by the link":      {podns.Ref{Boot: "a", Path: "/var/run/netns/there"}, true, true},
		"gone":                    {podns.Ref{Boot: "a", Path: "/run/netns/gone"}, true, false},
		"perhaps gone":            {podns.Ref{Boot: "a", Path: "/run/netns/gone"}, false, true},
		"in a directory not seen": {podns.Ref{Boot: "a", Path: "/proc/7/ns/net"}, true, true},
	} {
		v := &netnsView{agent: a, boot: "a", proven: func() bool { return c.proven }}
		if got := v.lives(c.ref); got != c.lives {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A node without VFs has no metrics of them, and nothing is amiss.
func TestNoVFs(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	a := &Agent{
		Options: Options{StateDir: dir, BootIDPath: filepath.Join(dir, "boot"), Log: slog.New(slog.NewTextHandler(&log, nil))},
		metrics: newMetrics("test"),
		pools:   &pools{},
	}
	sys := sriov.Sysfs(dir)
	inventory := sriov.Inventory{Sys: sys, Kernel: sriov.Resident{Linux: sriov.Linux{Sys: sys}}, Claims: sriov.NewClaims(dir, "")}
	if err := a.ShowVFs(inventory); err == nil {
		t.Error("without a boot id")
	}
	if err := os.WriteFile(a.BootIDPath, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.ShowVFs(inventory); err != nil {
		t.Fatal(err)
	}
	for name, value := range scrape(t, a.metrics.registry) {
		if strings.HasPrefix(name, "multiplexer_vf") && (name != "multiplexer_vf_look_failures_total{}" || value != 0) {
			t.Error(name, value)
		}
	}
	if log.Len() > 0 {
		t.Error(log.String())
	}
}

// docs/agent.md lists every metric of VFs, and no other.
func TestVFMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("`multiplexer_vf[a-z_]+`").FindAllString(string(page), -1)
	described := make(chan *prometheus.Desc, 100)
	newVFCollector(nil, 0, nil).Describe(described)
	close(described)
	var told []string
	for desc := range described {
		told = append(told, "`"+regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(desc.String())[1]+"`")
	}
	slices.Sort(documented)
	slices.Sort(told)
	if diff := cmp.Diff(told, documented); diff != "" {
		t.Errorf("metrics (-collector +docs/agent.md):\n%s", diff)
	}
}
